"""The joint search as a mixed-integer program around a known candidate, and the distance to its optimum.

    min  sum D x + sum D q
    s.t. sum_k x_gk = 1,  sum_f q_bf = 1                                   every group one width, every block one format
         sum_k'f z_bkk'f = x_ak,  sum_kf z_bkk'f = x_bk',  sum_kk' z_bkk'f = q_bf     z: a block's widths and format
         w_e >= q_uf + q_vf' - 1                                           an edge whose two formats cost time together
         sum T z + sum R w <= budget

Unlike the linearised knapsack, it is exact for widths that many layers share and for conversions between formats. Two
things are not exact. Widths stay within a window around the known ones. And if a block depends on more than two groups
(behind a concatenation, for example), only the two with the largest effect are joint, and the others are linear. So the
bound and the gap hold for that neighbourhood, and exact latencies decide whether the solution is accepted. Solved by
HiGHS (Huangfu & Hall 2018).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.search_state import Point, State
from edgeprune.search.solver import Searcher

WINDOW = 2
"""Levels on each side of the known one."""
SECONDS = 5.0
GAP = 1e-3
"""Relative gap at which the solver stops."""


@dataclass(frozen=True, eq=False)
class Solved:
    """The solution of the program.

    Attributes:
        candidate: the better of the known candidate and the solver's, by exact latency and loss.
        bound: the solver's lower bound on the loss in the neighbourhood; None if it found none in time.
        gap: loss of the candidate above the bound, as a fraction of its loss; None without a bound.
    """

    candidate: Candidate
    bound: float | None
    gap: float | None


def solve_around(problem: Problem, known: Candidate, budget_us: float, seconds: float = SECONDS) -> Solved:
    """Look for the best candidate within the budget in the neighbourhood of a known one."""
    searcher = Searcher(problem)
    state = State(problem)
    start = state.point(known)
    program = _Program(state, start)
    solution, bound = program.solve(budget_us - problem.latency.call_us, seconds)
    if bound is None:
        return Solved(known, None, None)
    best = known
    if solution is not None:
        found = searcher.improved(state.candidate(solution), budget_us)
        if found.loss < known.loss and found.latency_us <= budget_us:
            best = found
    return Solved(best, bound, max(best.loss - bound, 0.0) / best.loss if best.loss > 0 else 0.0)


@dataclass(eq=False)
class _Program:
    """Columns and rows; a column is a width of a group, a format of a block, a joint state, or a conversion."""

    state: State
    start: Point
    loss: list[float] = field(default_factory=list)
    time_us: list[float] = field(default_factory=list)
    integral: list[bool] = field(default_factory=list)
    rows: list[tuple[dict[int, float], float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        state = self.state
        leaders = [together[0] for together in state.together]
        columns = {g: self._one_of(self._window(g), state.width_loss[g]) for g in sorted(set(leaders))}
        self.widths = [columns[g] for g in leaders]
        self.formats = [self._one_of(range(len(losses)), losses) for losses in self.state.format_loss]
        for b in range(len(self.formats)):
            self._add_block(b)
        for i in range(len(self.state.problem.latency.edges)):
            self._add_edge(i)

    def solve(self, room_us: float, seconds: float) -> tuple[Point | None, float | None]:
        """The solution, if there is one, and the bound on the loss."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import coo_array

        cells = [(r, c, v) for r, (row, _, _) in enumerate(self.rows) for c, v in row.items()]
        row, column, value = (np.array(part) for part in zip(*cells, strict=True))
        matrix = coo_array((value, (row, column)), shape=(len(self.rows), len(self.loss))).tocsr()
        loss, time_us = np.array(self.loss), np.array(self.time_us)
        scale = max(float(loss.max(initial=0.0)), 1e-30)
        found = milp(
            loss / scale,
            integrality=np.array(self.integral, np.int64),
            bounds=Bounds(0, 1),
            constraints=[
                LinearConstraint(matrix, [low for _, low, _ in self.rows], [high for _, _, high in self.rows]),
                LinearConstraint(time_us[None], -np.inf, room_us),
            ],
            options={"time_limit": seconds, "mip_rel_gap": GAP},
        )
        bound = getattr(found, "mip_dual_bound", None)
        if bound is None or not np.isfinite(bound):
            return None, None
        return (None if found.x is None else self._point(found.x)), float(bound) * scale

    def _window(self, group: int) -> range:
        here, count = self.start.levels[group], len(self.state.problem.levels[group])
        return range(max(0, here - WINDOW), min(count, here + WINDOW + 1))

    def _one_of(self, options: range, losses: NDArray[np.float64]) -> dict[int, int]:
        """A binary column for each option, with a row that selects exactly one: option -> column."""
        columns = {k: self._column(float(losses[k]), 0.0, integral=True) for k in options}
        self.rows.append((dict.fromkeys(columns.values(), 1.0), 1.0, 1.0))
        return columns

    def _column(self, loss: float, time_us: float, *, integral: bool = False) -> int:
        self.loss.append(loss)
        self.time_us.append(time_us)
        self.integral.append(integral)
        return len(self.loss) - 1

    def _add_block(self, b: int) -> None:
        state, start = self.state, self.start
        here = state.block_us(start, b)
        spread = {}
        for g in sorted({state.together[g][0] for g in state.group_order[b]}):
            times = [state.block_us(state.with_level(start, g, k), b) for k in self.widths[g]]
            spread[g] = max(times) - min(times)
        joint = sorted(spread, key=lambda g: spread[g])[-2:]
        for g in set(spread) - set(joint):
            for k, column in self.widths[g].items():
                self.time_us[column] += state.block_us(state.with_level(start, g, k), b) - here
        links: dict[int, dict[int, float]] = {}
        for *levels, f in itertools.product(*(self.widths[g] for g in joint), self.formats[b]):
            p = state.with_format(start, b, f)
            for g, k in zip(joint, levels, strict=True):
                p = state.with_level(p, g, k)
            time_us = state.block_us(p, b)
            if not joint:
                self.time_us[self.formats[b][f]] += time_us
                continue
            z = self._column(0.0, time_us)
            for column in (self.formats[b][f], *(self.widths[g][k] for g, k in zip(joint, levels, strict=True))):
                links.setdefault(column, {column: -1.0})[z] = 1.0
        self.rows += [(row, 0.0, 0.0) for row in links.values()]

    def _add_edge(self, i: int) -> None:
        edge = self.state.problem.latency.edges[i]
        for f, g in itertools.product(self.formats[edge.writer], self.formats[edge.reader]):
            p = self.state.with_format(self.state.with_format(self.start, edge.writer, f), edge.reader, g)
            cost_us = self.state.edge_us(p, i)
            if cost_us > 0:
                w = self._column(0.0, cost_us)
                pair = {self.formats[edge.writer][f]: 1.0, self.formats[edge.reader][g]: 1.0, w: -1.0}
                self.rows.append((pair, -np.inf, 1.0))

    def _point(self, x: NDArray[np.float64]) -> Point:
        def selected(columns: dict[int, int]) -> int:
            return max(columns, key=lambda k: x[columns[k]])

        return Point(tuple(map(selected, self.widths)), tuple(map(selected, self.formats)))
