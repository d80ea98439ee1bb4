"""What a search chooses from, and what it gives back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency import Format, Latency


@dataclass(frozen=True, eq=False)
class Problem:
    """What there is to choose from, and what each choice is predicted to lose.

    Attributes:
        latency: the time of any choice.
        levels: per group, the widths it may take, ascending; the last is the dense width.
        width_loss: per group, shape (levels,): loss of each width, 0 for the dense one.
        format_loss: per block, format -> loss, 0 for the float one; a format that is not named may not be chosen.
    """

    latency: Latency
    levels: tuple[NDArray[np.int64], ...]
    width_loss: tuple[NDArray[np.float64], ...]
    format_loss: tuple[Mapping[Format, float], ...]


@dataclass(frozen=True, eq=False)
class Candidate:
    """Widths of shape (groups,), a format per block, predicted microseconds and predicted loss."""

    widths: Widths
    formats: tuple[Format, ...]
    latency_us: float
    loss: float

    @property
    def key(self) -> Hashable:
        """What tells one network from another."""
        return self.widths.tobytes(), self.formats
