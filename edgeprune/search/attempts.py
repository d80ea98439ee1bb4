"""Measure for good, and choose again where the final measurement says otherwise than those on the way.

A result that has missed its budget is made again a little faster. One that is much faster than it had to be is made
again once a little slower, since what it gave up for that is accuracy. The final measurement is the longest there is,
and two choices of nearly the same time are told apart by the latency model, so nothing is measured on the way to
another attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from edgeprune.errors import BudgetError
from edgeprune.search.goal import Goal
from edgeprune.search.problem import Candidate
from edgeprune.search.timings import FeasibleCandidate, Timing
from edgeprune.timing import Measurement, ratio

ATTEMPTS = 3
MOST_TIGHTENING = 0.97
"""A disturbed measurement must not make the next attempt give up much more than was missing."""
SPARE = 0.985
"""Share of the budget that what was missed is made again for."""
EXCESS = 1.05
"""A result that is surely so many times as fast as asked for has given up accuracy for nothing."""
KEPT_BACK = 1.02
"""When a result is made slower: how many times as fast as asked for it is still aimed at."""


class Built(Protocol):
    """What comes out of a build."""

    @property
    def candidate(self) -> Candidate:
        """Widths, formats, and the loss that they were priced at."""

    @property
    def measured(self) -> Mapping[str, Measurement] | None:
        """The original, the result and others, measured in one run; None where they are predicted."""


T = TypeVar("T", bound=Built)


def build_within(
    goal: Goal,
    feasible: FeasibleCandidate,
    adjusted: Callable[[FeasibleCandidate, float], FeasibleCandidate],
    build: Callable[[FeasibleCandidate], T],
) -> T:
    """The result of least loss that meets its budget in the final measurement.

    Args:
        goal: with a budget.
        feasible: a choice that met it on the way.
        adjusted: of a choice, with what it took in the end, and a factor: one that takes so many times as long.
        build: makes a choice and measures it for good.

    Raises:
        BudgetError: every attempt missed the budget; the text says by how much the last did.
    """
    kept: T | None = None
    factor = 1.0
    for attempt in range(ATTEMPTS):
        if attempt:
            try:
                feasible = adjusted(feasible, factor)
            except BudgetError:
                if kept is None:
                    raise
                return kept
        result = build(feasible)
        if result.measured is None:
            return result  # what is predicted cannot miss its budget: the search kept within it
        pair = result.measured["original"], result.measured["result"]
        fulfilled = goal.fulfilled(*pair)
        if kept is not None:
            better = fulfilled >= 1 and result.candidate.loss < kept.candidate.loss
            return result if better else kept
        if fulfilled >= 1:
            if goal.surely_fulfilled(*pair) < EXCESS or result.candidate.loss <= 0:
                return result
            kept, factor = result, fulfilled / KEPT_BACK
        else:
            factor = SPARE * max(fulfilled, MOST_TIGHTENING)
        feasible = _as_measured(feasible, *pair)
    if kept is not None:
        return kept
    original, mine = pair
    budget_ms = (goal.budget_us(original.median_ms * 1e3) or 0.0) / 1e3
    raise BudgetError(
        f"the budget of {budget_ms:.3f} ms was not met in {ATTEMPTS} tries: the last took {mine.median_ms:.3f} ms, "
        f"{ratio(original, mine).value:.2f}x as fast as the original"
    )


def _as_measured(feasible: FeasibleCandidate, original: Measurement, mine: Measurement) -> FeasibleCandidate:
    """The choice with what it took in the end."""
    baseline_us = feasible.timing.baseline_us
    return replace(feasible, timing=Timing(baseline_us, baseline_us / ratio(original, mine).value))
