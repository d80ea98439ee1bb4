"""The layers that read a group, refitted to some of its units: kept while the units are ranked by `obs`.

The sweep of OBS refits every reader after each removal (`edgeprune.importance.surgeon`). Its weights at a few widths
are what a trial of such a width needs: no covariance is gathered or inverted again for the trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.importance.surgeon import Surgeon

SHARES = (0.75, 0.375)
"""Widths at which refits are kept, as shares of a group's units; the smallest width of the sweep is another one."""
BATCHES = (8, 40)
"""Batches of a group: a large group is cut in batches larger than the step, a small one in smaller ones."""


def removed_at_once(size: int, step: int) -> int:
    """Units of a group of this size that the sweep removes in one batch."""
    least, most = BATCHES
    return max(1, min(max(step, -(-size // most)), size // least))


def refit_widths(size: int, batch: int) -> tuple[int, ...]:
    """The widths at which the refits of a group are kept, ascending: those at ends of batches near the shares."""
    removed = [round((1 - share) * size / batch) * batch for share in SHARES]
    removed.append((size - 1) // batch * batch)
    return tuple(sorted({size - r for r in removed if 0 < r < size}))


@dataclass(frozen=True, eq=False)
class ReaderRefits:
    """The refits of the layers that read one group.

    Attributes:
        means: node of a layer -> means of its features, shape (groups, features).
        matrices: width -> node -> for each group of the layer, shape (outputs, features that stay); a layer whose
            correlations were not gathered is missing.
    """

    means: Mapping[str, NDArray[np.float64]]
    matrices: dict[int, dict[str, list[NDArray[np.float32]]]] = field(default_factory=dict)

    def keep(self, layers: Mapping[str, Sequence[Surgeon]], width: int) -> None:
        """Keep the present weights of the layers; ``layers``: node -> the state of each group of the layer."""
        full = {node: states for node, states in layers.items() if all(s.inverse.ndim == 2 for s in states)}
        self.matrices[width] = {node: [s.left for s in states] for node, states in full.items()}
