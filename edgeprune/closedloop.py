"""Closing the loop: search, measure, correct the latency model, search again.

What a device does is what counts; a latency model only proposes. Timing needs neither calibration nor the right
weights, so the loop runs on networks of the chosen widths and formats before anything expensive is done for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edgeprune.errors import BudgetError
from edgeprune.search import Choice, Problem, fastest, fastest_unpruned, search

ROUNDS = 5
MARGIN = 0.015
"""Share of the budget kept back, so that the result still meets it when it is measured again."""


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
    measure_us: Callable[[Choice], tuple[float, float]],
    tightened: float = 1.0,
) -> Met:
    """Find the choice of least loss that *measures* within the budget.

    Args:
        problem: with a latency model as good as there is.
        budget_of: the budget, given what the original takes in the same measurement, microseconds.
        measure_us: builds a network of these widths and formats and times it: (original, network), microseconds.
        tightened: factor on the budget, below 1 where a first result has missed it.

    Raises:
        BudgetError: if none was found; the text says what the fastest one takes.
    """
    best: Met | None = None
    fastest_us = float("inf")
    baseline_us, _ = measure_us(fastest_unpruned(problem))
    for _ in range(ROUNDS):
        budget_us = (budget_of(baseline_us) or float("inf")) * tightened
        try:
            choice = search(problem, (1 - MARGIN) * budget_us)
        except BudgetError as error:
            if best is not None:
                break
            choice = fastest(problem)
            baseline_us, least_us = measure_us(choice)
            if least_us > budget_us:
                raise BudgetError(_shortfall(budget_us, min(fastest_us, least_us), baseline_us)) from error
            problem = replace(problem, latency=problem.latency.corrected(least_us / choice.latency_us))
            continue
        baseline_us, measured_us = measure_us(choice)
        fastest_us = min(fastest_us, measured_us)
        factor = measured_us / choice.latency_us
        problem = replace(problem, latency=problem.latency.corrected(factor))
        if measured_us <= budget_us and (best is None or choice.loss < best.choice.loss):
            best = Met(choice, measured_us, problem)
        if best is not None and abs(factor - 1) < MARGIN:
            break
    if best is None:
        raise BudgetError(_shortfall(budget_us, fastest_us, baseline_us))
    return replace(best, problem=problem)


def _shortfall(budget_us: float, fastest_us: float, baseline_us: float) -> str:
    return (
        f"the budget of {budget_us / 1e3:.3f} ms can't be met: the fastest network that was measured takes "
        f"{fastest_us / 1e3:.3f} ms, {baseline_us / fastest_us:.2f}x as fast as the original "
        f"({baseline_us / 1e3:.3f} ms)"
    )
