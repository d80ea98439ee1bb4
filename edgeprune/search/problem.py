"""The input of a search, and its result."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency import Format, Latency, rank_of


@dataclass(frozen=True, eq=False)
class Problem:
    """The possible widths and formats, and the predicted loss of each.

    Attributes:
        latency: predicts the latency of any candidate.
        levels: per group, its possible widths, ascending; the last one is the dense width.
        width_loss: per group, shape (levels,): loss of each width, 0 for the dense one.
        format_loss: per block, format -> loss, 0 for the float one; a format that is not listed is not allowed.
        twins: blocks that must have the same format: the calls of one layer on several inputs.
        tied: sets of groups that always have the same level; each of a set has as many levels.
    """

    latency: Latency
    levels: tuple[NDArray[np.int64], ...]
    width_loss: tuple[NDArray[np.float64], ...]
    format_loss: tuple[Mapping[Format, float], ...]
    twins: tuple[tuple[int, ...], ...] = ()
    tied: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Candidate:
    """Widths of shape (groups,), a format per block, the predicted latency in microseconds and the predicted loss."""

    widths: Widths
    formats: tuple[Format, ...]
    latency_us: float
    loss: float

    def removes(self, sizes: Widths) -> bool:
        """Whether it removes units of a network with these sizes, or has layers of low rank."""
        return bool((self.widths < sizes).any()) or any(map(rank_of, self.formats))

    @property
    def key(self) -> Hashable:
        """Identifies the network: equal for equal widths and formats."""
        return self.widths.tobytes(), self.formats
