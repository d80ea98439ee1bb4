"""The joint search: the widths and formats of least loss for a budget.

Every group needs a width and every block a format. Losses add up, but times do not: the time of a convolution is a
product of the widths on its two sides, and a block next to an INT8 block costs less in INT8. So the times are
linearised around the current point. The multiple-choice knapsack of the linear problem is solved exactly within a trust
region of neighbouring widths. This repeats until nothing improves. Exact times decide which points are kept. A descent
by the least loss per microsecond and a pairwise exchange then use the time that the linearisation left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from edgeprune.errors import BudgetError
from edgeprune.search.knapsack import solve_knapsack
from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.search_state import ROUNDS, Moves, Point, State, moves

__all__ = ["Candidate", "Problem", "Searcher", "fastest", "fastest_unpruned", "search"]

EXCHANGES = 300
PAIRS_CHECKED = 20
NEARBY = 0.15
"""If a budget differs from the last one by at most this share, its search starts from the last result."""
_EPSILON = 1e-12


class Searcher:
    """Searches one problem for any number of budgets; all searches share the cached latencies."""

    def __init__(self, problem: Problem, state: State | None = None):
        self._state = state or State(problem)
        self._last: tuple[float, list[Point]] | None = None

    @cached_property
    def _ends(self) -> tuple[Point, Point, Point]:
        """Starting points: the one of least loss, the fastest without cuts, and the fastest of all."""
        return self._state.dense(), self._state.fastest_formats(), self._state.fastest()

    def search(self, budget_us: float) -> Candidate:
        """The candidate of least loss whose predicted latency is within the budget.

        Raises:
            BudgetError: the budget is not positive, or the fastest candidate exceeds it; the text gives its latency.
        """
        if not budget_us > 0:
            raise BudgetError(f"a budget must be positive, not {budget_us:g} us")
        state = self._state
        fastest = min(state.time(s) for s in self._ends)
        if fastest > budget_us:
            raise BudgetError(
                f"no candidate is predicted to run in less than {fastest / 1e3:.3f} ms; "
                f"the budget is {budget_us / 1e3:.3f} ms"
            )
        found: list[tuple[Point, Point]] = []
        if self._last is not None and abs(budget_us / self._last[0] - 1) <= NEARBY:
            found = self._improved_from(self._last[1], budget_us)
        found = found or self._improved_from(self._ends, budget_us)
        start, best = min(found, key=lambda f: (state.loss(f[1]), state.time(f[1])))
        self._last = budget_us, [start, best]
        return state.candidate(best)

    def _improved_from(self, starts: Sequence[Point], budget_us: float) -> list[tuple[Point, Point]]:
        """The starting points that led to a point within the budget, each with that point."""
        return [(s, p) for s in starts if (p := _improve(self._state, s, budget_us)) is not None]

    def reweighted(self, problem: Problem) -> Searcher:
        """A searcher of the same candidates and latencies with other losses."""
        return Searcher(problem, self._state.reweighted(problem))

    def improved(self, candidate: Candidate, budget_us: float) -> Candidate:
        """A candidate near another one with less loss, within the budget; the same one if none is better."""
        state = self._state
        near = _shrink_to_fit(state, state.point(candidate), budget_us)
        return candidate if near is None else state.candidate(_exchange(state, near, budget_us))

    def fastest_unpruned(self) -> Candidate:
        """Dense widths, every block in the format that makes the network fastest."""
        return self._state.candidate(self._ends[1])

    def fastest(self) -> Candidate:
        """The fastest of all candidates, regardless of its loss."""
        return self._state.candidate(self._ends[2])


def search(problem: Problem, budget_us: float) -> Candidate:
    """The candidate of least loss whose predicted latency is within the budget.

    Raises:
        BudgetError: the budget is not positive, or the fastest candidate exceeds it; the text gives its latency.
    """
    return Searcher(problem).search(budget_us)


def fastest_unpruned(problem: Problem) -> Candidate:
    """Dense widths, every block in the format that makes the network fastest."""
    return Searcher(problem).fastest_unpruned()


def fastest(problem: Problem) -> Candidate:
    """The fastest of all candidates, regardless of its loss."""
    return Searcher(problem).fastest()


def _improve(state: State, start: Point, budget_us: float) -> Point | None:
    best: Point | None = None
    point = start
    for _ in range(ROUNDS):
        proposal = _shrink_to_fit(state, _linearised_step(state, point, budget_us) or point, budget_us)
        if proposal is None:
            return best
        if best is not None and state.loss(proposal) >= state.loss(best) - _EPSILON:
            break
        best = point = proposal
    return None if best is None else _exchange(state, best, budget_us)


def _linearised_step(state: State, p: Point, budget_us: float) -> Point | None:
    """The solution of the knapsack with times linear around ``p``, and widths of half to twice the current ones."""
    times, losses, items = [], [], []
    for g, levels in enumerate(state.problem.levels):
        here = p.levels[g]
        near = [i for i, w in enumerate(levels) if abs(i - here) <= 1 or levels[here] <= 2 * w <= 4 * levels[here]]
        near = near if state.leads(g) else [here]
        times.append(state.level_times(p, g)[near])
        losses.append(state.width_loss[g][near])
        items.append(near)
    for b in range(len(state.format_names)):
        times.append(state.format_times(p, b))
        losses.append(state.format_loss[b])
        items.append(list(range(len(state.format_names[b]))))
    reachable = max(budget_us - state.time(p), sum(float(t.min()) for t in times))
    solution = solve_knapsack(times, losses, reachable)
    if solution is None:
        return None
    chosen = [items[c][i] for c, i in enumerate(solution)]
    groups = len(state.problem.levels)
    return Point(tuple(chosen[state.together[g][0]] for g in range(groups)), tuple(chosen[groups:]))


def _shrink_to_fit(state: State, p: Point, budget_us: float) -> Point | None:
    """Make the move with the least loss per microsecond until the exact latency fits."""
    while state.time(p) > budget_us:
        found = moves(state, p)
        faster = np.flatnonzero(found.time_us < -1e-9)
        if not faster.size:
            return None
        price = np.maximum(found.loss[faster], 0.0) / -found.time_us[faster]
        p = found.on(p, faster[price.argmin()])
    return p


def _exchange(state: State, p: Point, budget_us: float) -> Point:
    """Make single moves that fit, and pairs that fit together, while this lowers the loss."""
    for _ in range(EXCHANGES):
        room_us = budget_us - state.time(p)
        found = moves(state, p)
        better = np.flatnonzero((found.time_us <= room_us) & (found.loss < -_EPSILON))
        if better.size:
            p = found.on(p, better[found.loss[better].argmin()])
            continue
        swapped = _best_pair(state, p, found, room_us) or _best_neighbours(state, p, found, room_us)
        if swapped is None:
            return p
        p = swapped
    return p


def _best_pair(state: State, p: Point, found: Moves, room_us: float) -> Point | None:
    """The pair of moves that lowers the loss most within ``room_us``: by the sum of their times, then exactly."""
    gains, pays = np.flatnonzero(found.loss < -_EPSILON), np.flatnonzero(found.time_us < 0)
    if not gains.size or not pays.size:
        return None
    time_us = np.add.outer(found.time_us[gains], found.time_us[pays])
    loss = np.add.outer(found.loss[gains], found.loss[pays])
    same = np.equal.outer(found.slot[gains], found.slot[pays])
    least = max(_EPSILON, 1e-4 * state.loss(p))
    loss[(time_us > room_us) | same | (loss > -least)] = np.inf
    before_us = state.time(p)
    flat_loss = loss.ravel()
    count = min(PAIRS_CHECKED, flat_loss.size)
    best = np.argpartition(flat_loss, count - 1)[:count]
    for flat in best[np.argsort(flat_loss[best], kind="stable")]:
        i, j = np.unravel_index(flat, loss.shape)
        if not np.isfinite(loss[i, j]):
            return None
        candidate = found.on(found.on(p, int(gains[i])), int(pays[j]))
        if state.time(candidate) - before_us <= room_us:
            return candidate
    return None


def _best_neighbours(state: State, p: Point, found: Moves, room_us: float) -> Point | None:
    """The pair that lowers the loss most, of the formats that gain most and whatever fits once they have changed.

    Two neighbours cost more in two formats than in one, so neither may fit alone where both together do.
    """
    gains = np.flatnonzero((found.loss < -_EPSILON) & (found.slot >= len(p.levels)))
    least, best = -max(_EPSILON, 1e-4 * state.loss(p)), None
    for first in gains[np.argsort(found.loss[gains], kind="stable")[:PAIRS_CHECKED]]:
        changed = found.on(p, int(first))
        then = moves(state, changed)
        loss = found.loss[first] + then.loss
        loss[(found.time_us[first] + then.time_us > room_us) | (then.slot == found.slot[first])] = np.inf
        if loss.size and loss.min() < least:
            least, best = float(loss.min()), then.on(changed, int(loss.argmin()))
    return best
