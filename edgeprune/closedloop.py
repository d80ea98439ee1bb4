"""Closing the loop: search, measure, correct the latency model, search again.

What a device does is what counts; a latency model only proposes. Timing needs neither refitted weights nor exact
ranges, so the loop runs on networks of the chosen widths and formats before anything expensive is done for them. They
are timed beside the same other networks as the result will be, so that the caches are as they will be then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeprune.errors import BudgetError
from edgeprune.search import Choice, Problem, fastest, fastest_unpruned, search

ROUNDS = 6
MARGIN = 0.015
"""Share of the budget kept back, so that the result still meets it when it is measured again."""
CLOSE = 0.03
"""A choice that leaves no more than this share of the budget unused is good enough."""


@dataclass(frozen=True)
class Timing:
    """Microseconds of a network, and of the original in the same measurement."""

    baseline_us: float
    measured_us: float


@dataclass(frozen=True, eq=False)
class Met:
    """A choice whose measured time is within the budget.

    Attributes:
        choice: what was chosen; its ``latency_us`` is what was predicted *before* it was measured.
        measured_us: what it took.
        problem: the problem with its latency model corrected by what was measured.
    """

    choice: Choice
    measured_us: float
    problem: Problem


def meet_budget(
    problem: Problem,
    budget_of: Callable[[float], float | None],
    timing: Callable[[Choice], Timing],
    tightened: float = 1.0,
) -> Met:
    """Find the choice of least loss that *measures* within the budget, with little of it unused.

    Args:
        problem: with a latency model as good as there is.
        budget_of: the budget, given what the original takes in the same measurement, microseconds.
        timing: builds a network of these widths and formats and times it.
        tightened: factor on the budget, below 1 where a first result has missed it.

    Raises:
        BudgetError: if none was found; the text says what the fastest one takes.
    """
    best: Met | None = None
    fastest_us = float("inf")
    seen: dict[tuple[object, ...], Timing] = {}

    def measure(choice: Choice) -> Timing:
        key = (choice.widths.tobytes(), choice.formats)
        if key not in seen:
            seen[key] = timing(choice)
        return seen[key]

    start = fastest_unpruned(problem)
    baseline_us = measure(start).baseline_us
    problem = _corrected(problem, measure(start), start)
    for _ in range(ROUNDS):
        budget_us = (budget_of(baseline_us) or float("inf")) * tightened
        try:
            choice = search(problem, (1 - MARGIN) * budget_us)
        except BudgetError as error:
            if best is not None:
                break
            choice = fastest(problem)
            least = measure(choice)
            if least.measured_us > budget_us:
                raise BudgetError(
                    _shortfall(budget_us, min(fastest_us, least.measured_us), least.baseline_us)
                ) from error
            problem = _corrected(problem, least, choice)
            baseline_us = least.baseline_us
            continue
        known = (choice.widths.tobytes(), choice.formats) in seen
        timed = measure(choice)
        baseline_us = timed.baseline_us
        budget_us = (budget_of(baseline_us) or float("inf")) * tightened
        fastest_us = min(fastest_us, timed.measured_us)
        problem = _corrected(problem, timed, choice)
        if timed.measured_us <= budget_us and (best is None or choice.loss < best.choice.loss):
            best = Met(choice, timed.measured_us, problem)
        if known or (best is not None and best.choice is choice and timed.measured_us >= (1 - CLOSE) * budget_us):
            break
    if best is None:
        raise BudgetError(_shortfall(budget_us, fastest_us, baseline_us))
    return replace(best, problem=problem)


def _corrected(problem: Problem, timed: Timing, choice: Choice) -> Problem:
    """The problem with its latency model such that it predicts what the choice took."""
    predicted_us = problem.latency.total_us(choice.widths, choice.formats)
    return replace(problem, latency=problem.latency.corrected(timed.measured_us / predicted_us))


def _shortfall(budget_us: float, fastest_us: float, baseline_us: float) -> str:
    return (
        f"the budget of {budget_us / 1e3:.3f} ms can't be met: the fastest network that was measured takes "
        f"{fastest_us / 1e3:.3f} ms, {baseline_us / fastest_us:.2f}x as fast as the original "
        f"({baseline_us / 1e3:.3f} ms)"
    )
