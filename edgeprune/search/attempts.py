"""The final measurement, and another attempt if it contradicts the measurements of the search.

A result that misses its budget is replaced by a slightly faster candidate. A result that is much faster than necessary
is replaced once by a slightly slower candidate, because it has lost accuracy for its speed. The final measurement is
the longest one, and the latency model can compare two candidates of nearly the same latency. So the next attempt needs
no other measurement.
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
"""Lowest factor between attempts: a disturbed measurement must not make the next candidate much faster than needed."""
SPARE = 0.985
"""Share of the budget that the next attempt aims at after a miss."""
EXCESS = 1.05
"""A result that is at least this many times as fast as asked for has lost accuracy for nothing."""
RESERVE = 1.02
"""How many times as fast as asked for the next attempt is still meant to be if it is made slower."""


class Built(Protocol):
    """The result of a build."""

    @property
    def candidate(self) -> Candidate:
        """Widths, formats and their predicted loss."""

    @property
    def measured(self) -> Mapping[str, Measurement] | None:
        """The original, the result and others, measured in one run; None if they are predicted."""


T = TypeVar("T", bound=Built)


def build_within(
    goal: Goal,
    feasible: FeasibleCandidate,
    adjusted: Callable[[FeasibleCandidate, float], FeasibleCandidate],
    build: Callable[[FeasibleCandidate], T],
) -> T:
    """The result of least loss that meets the budget in the final measurement.

    Args:
        goal: with a budget.
        feasible: a candidate that met it during the search.
        adjusted: takes a candidate with its final latency, and a factor; gives a candidate with that multiple of the
            latency.
        build: builds a candidate and makes the final measurement.

    Raises:
        BudgetError: every attempt missed the budget; the text names the latency of the last one.
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
            return result  # a prediction cannot miss the budget: the search kept within it
        pair = result.measured["original"], result.measured["result"]
        fulfilled = goal.fulfilled(*pair)
        if kept is not None:
            better = fulfilled >= 1 and result.candidate.loss < kept.candidate.loss
            return result if better else kept
        if fulfilled >= 1:
            if goal.surely_fulfilled(*pair) < EXCESS or result.candidate.loss <= 0:
                return result
            kept, factor = result, fulfilled / RESERVE
        else:
            factor = SPARE * max(fulfilled, MOST_TIGHTENING)
        feasible = _as_measured(feasible, *pair)
    if kept is not None:
        return kept
    original, last = pair
    budget_ms = (goal.budget_us(original.median_ms * 1e3) or 0.0) / 1e3
    raise BudgetError(
        f"the budget of {budget_ms:.3f} ms was not met in {ATTEMPTS} attempts: the last network runs in "
        f"{last.median_ms:.3f} ms, {ratio(original, last).value:.2f}x as fast as the original"
    )


def _as_measured(feasible: FeasibleCandidate, original: Measurement, result: Measurement) -> FeasibleCandidate:
    """The candidate with its latency in the final measurement."""
    baseline_us = feasible.timing.baseline_us
    return replace(feasible, timing=Timing(baseline_us, baseline_us / ratio(original, result).value))
