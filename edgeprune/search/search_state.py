"""Points of a search: a width for every group and a format for every block, with their exact latencies and losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency import Format
from edgeprune.search.min_cut import best_labels
from edgeprune.search.problem import Candidate, Problem

ROUNDS = 30


@dataclass(frozen=True)
class Point:
    """Level index per group, format index per block."""

    levels: tuple[int, ...]
    formats: tuple[int, ...]


@dataclass(eq=False)
class State:
    """Latencies and losses of points; those of blocks and moves are cached by the widths and formats around them."""

    problem: Problem
    _known: dict[tuple[object, ...], float] = field(default_factory=dict)
    _tables: dict[tuple[object, ...], NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = self.problem.latency
        self.format_names = tuple(
            tuple(f for f in model.formats(b) if f in losses) for b, losses in enumerate(self.problem.format_loss)
        )
        self.format_loss = tuple(
            np.array([loss[f] for f in names])
            for names, loss in zip(self.format_names, self.problem.format_loss, strict=True)
        )
        self.together: list[tuple[int, ...]] = [(g,) for g in range(len(self.problem.levels))]
        for groups in self.problem.tied:
            for g in groups:
                self.together[g] = groups
        self.width_loss = tuple(self._loss_together(g) for g in range(len(self.problem.levels)))
        self.blocks_of_group: list[list[int]] = [[] for _ in self.problem.levels]
        self.group_order = tuple(tuple(sorted(groups)) for groups in model.block_groups)
        for b, groups in enumerate(self.group_order):
            for g in sorted({self.together[g][0] for g in groups}):
                self.blocks_of_group[g].append(b)
        self.edges_of_block: list[list[int]] = [[] for _ in model.block_groups]
        for i, e in enumerate(model.edges):
            self.edges_of_block[e.writer].append(i)
            self.edges_of_block[e.reader].append(i)
        self.around_group = tuple(self._around(blocks) for blocks in self.blocks_of_group)
        self.around_block = tuple(self._around([b]) for b in range(len(self.group_order)))

    def leads(self, group: int) -> bool:
        """Whether a group is the first of those that move together; the others follow it."""
        return self.together[group][0] == group

    def _loss_together(self, group: int) -> NDArray[np.float64]:
        """Loss of every level of a group and those that follow it; 0 for one that follows."""
        losses = [self.problem.width_loss[g] for g in self.together[group]]
        return np.sum(losses, axis=0) if self.leads(group) else np.zeros(len(losses[0]))

    def reweighted(self, problem: Problem) -> State:
        """The state of a problem with other losses and the same latencies, which stay cached."""
        return State(problem, self._known, self._tables)

    def dense(self) -> Point:
        """Dense widths in the formats without loss."""
        return Point(
            tuple(len(v) - 1 for v in self.problem.levels),
            tuple(int(np.argmin(loss)) for loss in self.format_loss),
        )

    def fastest_formats(self, start: Point | None = None) -> Point:
        """Formats by coordinate descent on the exact latency, from float, from INT8, and from the best mix of two."""
        start = start or self.dense()
        ends = [Point(start.levels, tuple(min(i, len(n) - 1) for n in self.format_names)) for i in (0, 1)]
        return min((self._descend(p) for p in (*ends, self._mixed(start))), key=self.time)

    def _mixed(self, p: Point) -> Point:
        """The fastest mix of the first format of every block and its fastest other one; the optimum of these two."""
        first = Point(p.levels, (0,) * len(p.formats))
        others = [range(1, len(names)) or range(1) for names in self.format_names]
        other = [
            min(others[b], key=lambda i, b=b: self.block_us(self.with_format(first, b, i), b))  # type: ignore[misc]
            for b in range(len(others))
        ]
        both = [(0, i) for i in other]
        points = [[self.with_format(first, b, i) for i in both[b]] for b in range(len(both))]
        own = np.array([[self.block_us(q, b) for q in points[b]] for b in range(len(both))]).reshape(-1, 2)
        edges = self.problem.latency.edges
        together = np.array(
            [
                [[self.edge_us(self.with_format(q, e.reader, r), i) for r in both[e.reader]] for q in points[e.writer]]
                for i, e in enumerate(edges)
            ]
        ).reshape(-1, 2, 2)
        labels = best_labels(own, [(e.writer, e.reader) for e in edges], together)
        return Point(p.levels, tuple(both[b][label] for b, label in enumerate(labels)))

    def fastest(self) -> Point:
        """Widths and formats by coordinate descent on the exact latency, from the smallest widths and the dense ones.

        The smallest widths alone are not the fastest everywhere: a convolution of few channels may have no INT8 kernel.
        """
        smallest = Point(tuple(0 for _ in self.problem.levels), self.dense().formats)
        point = min((self.fastest_formats(smallest), self.fastest_formats()), key=self.time)
        for _ in range(ROUNDS):
            before = point
            for g in filter(self.leads, range(len(point.levels))):
                point = self.with_level(point, g, int(np.argmin(self.level_times(point, g))))
            point = min((point, self._descend(point)), key=self.time)
            if self.time(point) >= self.time(before):
                return before
        return point

    def _descend(self, point: Point) -> Point:
        for _ in range(ROUNDS):
            before = point
            for b, names in enumerate(self.format_names):
                if len(names) > 1:
                    point = min(
                        (self.with_format(point, b, i) for i in range(len(names))), key=lambda p: self.local(p, [b])
                    )
            if point == before:
                break
        return point

    def with_level(self, p: Point, group: int, level: int) -> Point:
        """The point with one group, and all that are tied to it, at another level."""
        return Point(_with(p.levels, self.together[group], level), p.formats)

    def with_format(self, p: Point, block: int, fmt: int) -> Point:
        """The point with one block in another format."""
        return Point(p.levels, (*p.formats[:block], fmt, *p.formats[block + 1 :]))

    def widths(self, p: Point) -> Widths:
        """Width of every group, shape (groups,)."""
        return np.array([v[i] for v, i in zip(self.problem.levels, p.levels, strict=True)], dtype=np.int64)

    def loss(self, p: Point) -> float:
        """Sum of the losses of all widths and formats."""
        wide = sum(float(loss[i]) for loss, i in zip(self.width_loss, p.levels, strict=True))
        return wide + sum(float(loss[i]) for loss, i in zip(self.format_loss, p.formats, strict=True))

    def time(self, p: Point) -> float:
        """Predicted latency of the whole network, microseconds."""
        return self.local(p, range(len(self.format_names))) + self.problem.latency.call_us

    def local(self, p: Point, blocks: Sequence[int]) -> float:
        """Predicted time of these blocks and of all their edges, microseconds."""
        edges = sorted({i for b in blocks for i in self.edges_of_block[b]})
        return sum(self.block_us(p, b) for b in blocks) + sum(self.edge_us(p, i) for i in edges)

    def block_us(self, p: Point, b: int) -> float:
        """Predicted time of one block, microseconds."""
        key = (b, p.formats[b], *(p.levels[g] for g in self.group_order[b]))
        known = self._known.get(key)
        if known is None:
            known = self.problem.latency.block_us(b, self.format_names[b][p.formats[b]], self.widths(p))
            self._known[key] = known
        return known

    def edge_us(self, p: Point, i: int) -> float:
        """Time of the conversion between the formats of an edge's two blocks, microseconds."""
        model = self.problem.latency
        e = model.edges[i]
        writer, reader = (
            self.format_names[e.writer][p.formats[e.writer]],
            self.format_names[e.reader][p.formats[e.reader]],
        )
        key = ("edge", i, writer, reader, *(p.levels[g] for g in self.group_order[e.writer]))
        known = self._known.get(key)
        if known is None:
            known = model.edge_us(e, writer, reader, self.widths(p))
            self._known[key] = known
        return known

    def _around(self, blocks: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Groups and blocks whose widths and formats determine the time of these blocks and their edges."""
        edges = (self.problem.latency.edges[i] for b in blocks for i in self.edges_of_block[b])
        near = sorted({*blocks, *(b for e in edges for b in (e.writer, e.reader))})
        return tuple(sorted({g for b in near for g in self.group_order[b]})), tuple(near)

    def level_times(self, p: Point, group: int) -> NDArray[np.float64]:
        """Change of the latency if only this group moves to each of its levels, microseconds, shape (levels,).

        Groups that are tied to it move along; one that follows another moves nothing itself.
        """
        groups, near = self.around_group[group]
        others = tuple(p.levels[g] for g in groups if g not in self.together[group])
        key = ("levels", group, others, tuple(p.formats[b] for b in near))
        times = self._tables.get(key)
        if times is None:
            blocks, count = self.blocks_of_group[group], len(self.problem.levels[group])
            times = np.array([self.local(self.with_level(p, group, i), blocks) for i in range(count)])
            self._tables[key] = times
        return np.asarray(times - times[p.levels[group]])

    def format_times(self, p: Point, block: int) -> NDArray[np.float64]:
        """Change of the latency if only this block moves to each of its formats, microseconds, shape (formats,)."""
        groups, near = self.around_block[block]
        others = tuple(p.formats[b] for b in near if b != block)
        key = ("formats", block, others, tuple(p.levels[g] for g in groups))
        times = self._tables.get(key)
        if times is None:
            count = len(self.format_names[block])
            times = np.array([self.local(self.with_format(p, block, i), [block]) for i in range(count)])
            self._tables[key] = times
        return np.asarray(times - times[p.formats[block]])

    def _with_equal_twins(self, p: Point) -> Point:
        """The point with one format for each set of twins: the faster one, so that a budget is kept."""
        for twins in self.problem.twins:
            names = {self.format_names[b][p.formats[b]] for b in twins}
            common = [f for f in self.format_names[twins[0]] if all(f in self.format_names[b] for b in twins)]
            options = [f for f in common if f in names] or common
            if len(names) > 1 and options:
                p = min((self._with_formats(p, twins, f) for f in options), key=self.time)
        return p

    def _with_formats(self, p: Point, blocks: Sequence[int], name: Format) -> Point:
        for b in blocks:
            p = self.with_format(p, b, self.format_names[b].index(name))
        return p

    def point(self, candidate: Candidate) -> Point:
        """The point of a candidate with the same levels and formats."""
        levels = (int(np.searchsorted(v, w)) for v, w in zip(self.problem.levels, candidate.widths, strict=True))
        return Point(
            tuple(levels), tuple(n.index(f) for n, f in zip(self.format_names, candidate.formats, strict=True))
        )

    def candidate(self, p: Point) -> Candidate:
        """The candidate of a point, with the same format for all calls of a layer."""
        p = self._with_equal_twins(p)
        names = tuple(n[i] for n, i in zip(self.format_names, p.formats, strict=True))
        return Candidate(self.widths(p), names, self.time(p), self.loss(p))


@dataclass(frozen=True, eq=False)
class Moves:
    """Every change of a single group or block of a point; all arrays of shape (moves,).

    Attributes:
        slot: the group, or the number of groups plus the block.
        to: its new level or format.
        time_us: change of the latency, microseconds.
        loss: change of the loss.
        together: per group, those that move with it.
    """

    slot: NDArray[np.int64]
    to: NDArray[np.int64]
    time_us: NDArray[np.float64]
    loss: NDArray[np.float64]
    together: Sequence[tuple[int, ...]]

    def on(self, p: Point, index: int) -> Point:
        """The point after one of the moves."""
        slot, to, groups = int(self.slot[index]), int(self.to[index]), len(p.levels)
        if slot < groups:
            return Point(_with(p.levels, self.together[slot], to), p.formats)
        b = slot - groups
        return Point(p.levels, (*p.formats[:b], to, *p.formats[b + 1 :]))


def moves(state: State, p: Point) -> Moves:
    """Every change of a single group or block, with the change of latency and loss."""
    here = np.array([*p.levels, *p.formats], np.int64)
    losses = [*state.width_loss, *state.format_loss]
    times = [np.zeros(0), *(state.level_times(p, g) for g in range(len(p.levels)))]
    times += [state.format_times(p, b) for b in range(len(p.formats))]
    counts = np.array([len(loss) for loss in losses], np.int64)
    slot = np.repeat(np.arange(len(losses)), counts)
    to = np.arange(len(slot)) - np.repeat(np.cumsum(counts) - counts, counts)
    follows = np.array([*(not state.leads(g) for g in range(len(p.levels))), *(False for _ in p.formats)], np.bool_)
    elsewhere = (to != np.repeat(here, counts)) & ~np.repeat(follows, counts)
    loss = np.concatenate([np.zeros(0), *(values - values[i] for values, i in zip(losses, here, strict=True))])
    return Moves(slot[elsewhere], to[elsewhere], np.concatenate(times)[elsewhere], loss[elsewhere], state.together)


def _with(levels: tuple[int, ...], groups: Sequence[int], level: int) -> tuple[int, ...]:
    return tuple(level if g in groups else old for g, old in enumerate(levels))
