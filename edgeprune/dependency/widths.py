"""The length of every axis as a function of group widths, without the graph.

An axis of a tensor is a disjoint union of segments, each the product of the groups that cut it. A channel axis has one
segment of one group, a concatenation has one segment for each operand, and a ``(head dim)`` axis has one segment of two
groups. So its length is

    L(w) = sum over segments s of  n_s * prod over groups g in s of  w_g / size_g

with w_g the number of units that group g keeps and n_s the segment's length in the dense model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.groups import Group

Axis = tuple[str, int]

Widths = NDArray[np.int64]
"""Units that every group keeps, shape (groups,)."""


@dataclass(frozen=True)
class Segment:
    """``length`` positions in the dense model, which all groups with these indices cut."""

    length: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Dim:
    """One dimension of a tensor: fixed, or cut by groups.

    Attributes:
        size: its length in the dense model.
        segments: what cuts it.
        stand_in: sum of the segments' lengths if these stand in for those of an open axis.
    """

    size: int
    segments: tuple[Segment, ...] | None = None
    stand_in: int | None = None

    def at(self, widths: Widths, sizes: Widths) -> float:
        """Its length when group g keeps ``widths[g]`` of its ``sizes[g]`` units."""
        if self.segments is None:
            return float(self.size)
        total = 0.0
        for s in self.segments:
            n = float(s.length)
            for g in s.groups:
                n *= widths[g] / sizes[g]
            total += n
        return total if self.stand_in is None else total * self.size / self.stand_in


@dataclass(frozen=True)
class AxisLengths:
    """Segments of every axis that a group cuts, the number of units of every group, shape (groups,), and open axes."""

    segments: Mapping[Axis, tuple[Segment, ...]]
    sizes: Widths
    open: frozenset[Axis] = frozenset()

    def dim(self, value: str, axis: int, size: int) -> Dim:
        """The dimension ``axis`` of a value, with length ``size`` in the dense model."""
        segments = self.segments.get((value, axis))
        if segments is None or (value, axis) not in self.open:
            return Dim(size, segments)
        return Dim(size, segments, sum(s.length for s in segments))


@dataclass(frozen=True, eq=False)
class TiedWidths:
    """Groups whose widths are chosen together.

    Attributes:
        groups: their numbers.
        options: the widths that they may have, ascending, shape (options, groups); the last row is the dense one.
    """

    groups: tuple[int, ...]
    options: NDArray[np.int64]


def axis_lengths(groups: tuple[Group, ...]) -> AxisLengths:
    """Decompose every axis that the groups touch into segments."""
    touched: dict[Axis, list[tuple[int, NDArray[np.int32]]]] = defaultdict(list)
    for g, group in enumerate(groups):
        for m in (*group.members, *group.open_members):
            touched[(m.value, m.axis)].append((g, m.unit))
    segments = {axis: _segments(entries) for axis, entries in touched.items()}
    open_axes = frozenset((m.value, m.axis) for g in groups for m in g.open_members)
    return AxisLengths(segments, np.array([g.size for g in groups], dtype=np.int64), open_axes)


def _segments(entries: list[tuple[int, NDArray[np.int32]]]) -> tuple[Segment, ...]:
    owned = np.stack([unit >= 0 for _, unit in entries])
    patterns, counts = np.unique(owned, axis=1, return_counts=True)
    return tuple(
        Segment(int(n), tuple(entries[i][0] for i in np.flatnonzero(pattern)))
        for pattern, n in zip(patterns.T, counts, strict=True)
    )
