"""Budget -> widths and formats: one joint choice.

Every group chooses a width and every block a format. Losses add up; times do not: a convolution's time is a product
of the widths on its two sides, and a block next to integers costs less in integers. So the times are linearised
around the current choice, the multiple-choice knapsack of the linear problem is solved exactly within a trust region
of neighbouring widths, and so on until nothing improves. Exact times decide what is kept. A descent by the best
loss-per-microsecond and a pairwise exchange then use what the linearisation left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import BudgetError
from edgeprune.knapsack import solve_knapsack
from edgeprune.latency import Format, Latency
from edgeprune.widths import Widths

ROUNDS = 30
EXCHANGES = 300
PAIRS_CHECKED = 20
_EPSILON = 1e-12


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
class Choice:
    """Widths of shape (groups,), a format per block, predicted microseconds and predicted loss."""

    widths: Widths
    formats: tuple[Format, ...]
    latency_us: float
    loss: float


def search(problem: Problem, budget_us: float) -> Choice:
    """The choice of least loss whose predicted time is within the budget.

    Raises:
        BudgetError: if the budget is not positive, or even the fastest choice does not fit; the text says what does.
    """
    if not budget_us > 0:
        raise BudgetError(f"a budget must be positive, not {budget_us:g} us")
    state = _State(problem)
    starts = [state.dense(), state.fastest_formats(), state.fastest()]
    fastest = min(state.time(s) for s in starts)
    if fastest > budget_us:
        raise BudgetError(
            f"no choice is predicted to take less than {fastest / 1e3:.3f} ms; the budget is {budget_us / 1e3:.3f} ms"
        )
    found = [c for s in starts if (c := _improve(state, s, budget_us)) is not None]
    best = min(found, key=lambda p: (state.loss(p), state.time(p)))
    return state.choice(best)


def fastest_unpruned(problem: Problem) -> Choice:
    """Dense widths, every block in the format that makes the network fastest."""
    state = _State(problem)
    return state.choice(state.fastest_formats())


def fastest(problem: Problem) -> Choice:
    """The fastest choice there is, whatever it loses."""
    state = _State(problem)
    return state.choice(state.fastest())


@dataclass(frozen=True)
class _Point:
    """Level index per group, format index per block."""

    levels: tuple[int, ...]
    formats: tuple[int, ...]


@dataclass(eq=False)
class _State:
    """Times and losses of points, with every block's time remembered by the widths it depends on."""

    problem: Problem
    _known: dict[tuple[object, ...], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        model = self.problem.latency
        self.format_names = tuple(
            tuple(f for f in model.formats(b) if f in losses) for b, losses in enumerate(self.problem.format_loss)
        )
        self.format_loss = tuple(
            np.array([loss[f] for f in names])
            for names, loss in zip(self.format_names, self.problem.format_loss, strict=True)
        )
        self.blocks_of_group: list[list[int]] = [[] for _ in self.problem.levels]
        self.group_order = tuple(tuple(sorted(groups)) for groups in model.block_groups)
        for b, groups in enumerate(self.group_order):
            for g in groups:
                self.blocks_of_group[g].append(b)
        self.edges_of_block: list[list[int]] = [[] for _ in model.block_groups]
        for i, e in enumerate(model.edges):
            self.edges_of_block[e.writer].append(i)
            self.edges_of_block[e.reader].append(i)

    def dense(self) -> _Point:
        return _Point(
            tuple(len(v) - 1 for v in self.problem.levels),
            tuple(int(np.argmin(loss)) for loss in self.format_loss),
        )

    def fastest_formats(self, start: _Point | None = None) -> _Point:
        """Formats by coordinate descent on exact time, from float and from integers everywhere."""
        start = start or self.dense()
        ends = [
            self._descend(_Point(start.levels, tuple(min(i, len(n) - 1) for n in self.format_names))) for i in (0, 1)
        ]
        return min(ends, key=self.time)

    def fastest(self) -> _Point:
        smallest = _Point(tuple(0 for _ in self.problem.levels), self.dense().formats)
        return self.fastest_formats(smallest)

    def _descend(self, point: _Point) -> _Point:
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

    def with_level(self, p: _Point, group: int, level: int) -> _Point:
        return _Point((*p.levels[:group], level, *p.levels[group + 1 :]), p.formats)

    def with_format(self, p: _Point, block: int, fmt: int) -> _Point:
        return _Point(p.levels, (*p.formats[:block], fmt, *p.formats[block + 1 :]))

    def widths(self, p: _Point) -> Widths:
        return np.array([v[i] for v, i in zip(self.problem.levels, p.levels, strict=True)], dtype=np.int64)

    def loss(self, p: _Point) -> float:
        wide = sum(float(loss[i]) for loss, i in zip(self.problem.width_loss, p.levels, strict=True))
        return wide + sum(float(loss[i]) for loss, i in zip(self.format_loss, p.formats, strict=True))

    def time(self, p: _Point) -> float:
        return self.local(p, range(len(self.format_names))) + self.problem.latency.call_us

    def local(self, p: _Point, blocks: Sequence[int]) -> float:
        """Time of these blocks and of every edge at them, microseconds."""
        edges = sorted({i for b in blocks for i in self.edges_of_block[b]})
        return sum(self._block(p, b) for b in blocks) + sum(self._edge(p, i) for i in edges)

    def _block(self, p: _Point, b: int) -> float:
        key = (b, p.formats[b], *(p.levels[g] for g in self.group_order[b]))
        known = self._known.get(key)
        if known is None:
            known = self.problem.latency.block_us(b, self.format_names[b][p.formats[b]], self.widths(p))
            self._known[key] = known
        return known

    def _edge(self, p: _Point, i: int) -> float:
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

    def level_times(self, p: _Point, group: int) -> NDArray[np.float64]:
        """Change in time when the group alone moves to each of its levels."""
        blocks = self.blocks_of_group[group]
        here = self.local(p, blocks)
        return np.array(
            [self.local(self.with_level(p, group, i), blocks) - here for i in range(len(self.problem.levels[group]))]
        )

    def format_times(self, p: _Point, block: int) -> NDArray[np.float64]:
        """Change in time when the block alone moves to each of its formats."""
        here = self.local(p, [block])
        return np.array(
            [self.local(self.with_format(p, block, i), [block]) - here for i in range(len(self.format_names[block]))]
        )

    def choice(self, p: _Point) -> Choice:
        names = tuple(n[i] for n, i in zip(self.format_names, p.formats, strict=True))
        return Choice(self.widths(p), names, self.time(p), self.loss(p))


def _improve(state: _State, start: _Point, budget_us: float) -> _Point | None:
    best: _Point | None = None
    point = start
    for _ in range(ROUNDS):
        proposal = _shrink_to_fit(state, _linearised_step(state, point, budget_us) or point, budget_us)
        if proposal is None:
            return best
        if best is not None and state.loss(proposal) >= state.loss(best) - _EPSILON:
            break
        best = point = proposal
    return None if best is None else _exchange(state, best, budget_us)


def _linearised_step(state: _State, p: _Point, budget_us: float) -> _Point | None:
    """The knapsack's answer with times linear around ``p`` and widths within half of the current one."""
    times, losses, items = [], [], []
    for g, levels in enumerate(state.problem.levels):
        near = [i for i in range(len(levels)) if 0.5 <= levels[i] / levels[p.levels[g]] <= 2.0]
        times.append(state.level_times(p, g)[near])
        losses.append(state.problem.width_loss[g][near])
        items.append(near)
    for b in range(len(state.format_names)):
        times.append(state.format_times(p, b))
        losses.append(state.format_loss[b])
        items.append(list(range(len(state.format_names[b]))))
    reachable = max(budget_us - state.time(p), sum(float(t.min()) for t in times))
    picks = solve_knapsack(times, losses, reachable)
    if picks is None:
        return None
    chosen = [items[c][i] for c, i in enumerate(picks)]
    groups = len(state.problem.levels)
    return _Point(tuple(chosen[:groups]), tuple(chosen[groups:]))


@dataclass(frozen=True)
class _Move:
    """One group to another level, or one block to another format; ``slot`` counts the groups first, then the blocks."""

    slot: int
    to: int
    time_us: float
    loss: float

    def on(self, p: _Point) -> _Point:
        groups = len(p.levels)
        if self.slot < groups:
            return _Point((*p.levels[: self.slot], self.to, *p.levels[self.slot + 1 :]), p.formats)
        b = self.slot - groups
        return _Point(p.levels, (*p.formats[:b], self.to, *p.formats[b + 1 :]))


def _moves(state: _State, p: _Point) -> list[_Move]:
    """Every change of a single group or block, with what it does to time and loss."""
    moves = []
    for g, losses in enumerate(state.problem.width_loss):
        here = p.levels[g]
        for i, dt in enumerate(state.level_times(p, g)):
            if i != here:
                moves.append(_Move(g, i, float(dt), float(losses[i] - losses[here])))
    for b, losses in enumerate(state.format_loss):
        here = p.formats[b]
        if len(losses) > 1:
            for i, dt in enumerate(state.format_times(p, b)):
                if i != here:
                    moves.append(_Move(len(p.levels) + b, i, float(dt), float(losses[i] - losses[here])))
    return moves


def _shrink_to_fit(state: _State, p: _Point, budget_us: float) -> _Point | None:
    """Give up what saves most time for its loss until the exact time fits."""
    while state.time(p) > budget_us:
        faster = [m for m in _moves(state, p) if m.time_us < -1e-9]
        if not faster:
            return None
        p = min(faster, key=lambda m: max(m.loss, 0.0) / -m.time_us).on(p)
    return p


def _exchange(state: _State, p: _Point, budget_us: float) -> _Point:
    """Take back single changes that fit, and pairs of which one pays for the other, while that lowers the loss."""
    for _ in range(EXCHANGES):
        room_us = budget_us - state.time(p)
        moves = _moves(state, p)
        better = [m for m in moves if m.time_us <= room_us and m.loss < -_EPSILON]
        if better:
            p = min(better, key=lambda m: m.loss).on(p)
            continue
        swapped = _best_pair(state, p, moves, room_us)
        if swapped is None:
            return p
        p = swapped
    return p


def _best_pair(state: _State, p: _Point, moves: list[_Move], room_us: float) -> _Point | None:
    """The pair of moves that lowers the loss most within the room, by their single times and then by the exact one."""
    gains = [m for m in moves if m.loss < -_EPSILON]
    pays = [m for m in moves if m.time_us < 0]
    if not gains or not pays:
        return None
    time_us = np.add.outer([m.time_us for m in gains], [m.time_us for m in pays])
    loss = np.add.outer([m.loss for m in gains], [m.loss for m in pays])
    same = np.equal.outer([m.slot for m in gains], [m.slot for m in pays])
    least = max(_EPSILON, 1e-4 * state.loss(p))
    loss[(time_us > room_us) | same | (loss > -least)] = np.inf
    before_us = state.time(p)
    for flat in np.argsort(loss, axis=None)[:PAIRS_CHECKED]:
        i, j = np.unravel_index(flat, loss.shape)
        if not np.isfinite(loss[i, j]):
            return None
        candidate = pays[j].on(gains[i].on(p))
        if state.time(candidate) - before_us <= room_us:
            return candidate
    return None
