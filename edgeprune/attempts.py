"""Build, measure for good, and build again where the final measurement says otherwise than those on the way.

A result that may have missed its budget by chance is measured again, for longer, and that measurement counts. One that
has missed it is made again a little faster, and faster than the measurements on the way had to be, by as much as they
were better than the final one. One that is much faster than it had to be is made again once a little slower, since what
it gave up for that is accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from edgeprune.bench import Measurement, ratio
from edgeprune.closedloop import Met
from edgeprune.errors import BudgetError
from edgeprune.goal import Goal
from edgeprune.problem import Choice, Problem

ATTEMPTS = 3
MOST_TIGHTENING = 0.97
"""A disturbed measurement must not make the next attempt give up much more than was missing."""
EXCESS = 1.08
"""A result that is surely so many times as fast as asked for has given up accuracy for nothing."""
KEPT_BACK = 1.02
"""When a result is made slower: how many times as fast as asked for it is still aimed at."""


class Built(Protocol):
    """What comes out of a build."""

    @property
    def choice(self) -> Choice:
        """Widths, formats, and the loss that they were priced at."""

    @property
    def measured(self) -> Mapping[str, Measurement]:
        """The original, the result and others, measured in one run."""


T = TypeVar("T", bound=Built)


def build_within(
    goal: Goal,
    problem: Problem,
    first: Choice | None,
    meet: Callable[[Problem, float, Choice | None], Met],
    build: Callable[[Met], T],
    again: Callable[[T], T] | None = None,
) -> T:
    """The result of least loss that meets its budget in the final measurement.

    Args:
        goal: with a budget.
        problem: what there is to choose from.
        first: the choice to begin with, if there is one already.
        meet: of a problem, a factor on the budget and a choice to begin with: one that meets it on the way.
        build: makes a choice and measures it for good.
        again: measures what was built once more, for longer; None where that would show nothing new.

    Raises:
        BudgetError: every attempt missed the budget; the text says by how much the last did.
    """
    kept: T | None = None
    factor, start = 1.0, first
    for _ in range(ATTEMPTS):
        try:
            met = meet(problem, factor, start)
        except BudgetError:
            if kept is None:
                raise
            return kept
        result = build(met)
        pair = result.measured["original"], result.measured["result"]
        if again is not None and goal.fulfilled(*pair) < 1 <= goal.possibly_fulfilled(*pair):
            result = again(result)
            pair = result.measured["original"], result.measured["result"]
        fulfilled = goal.fulfilled(*pair)
        if kept is not None:
            better = fulfilled >= 1 and result.choice.loss < kept.choice.loss
            return result if better else kept
        if fulfilled >= 1:
            if goal.surely_fulfilled(*pair) < EXCESS or result.choice.loss <= 0:
                return result
            kept = result
            factor *= fulfilled / KEPT_BACK
        else:
            promised = (goal.budget_us(met.timing.baseline_us) or met.measured_us) / met.measured_us
            factor = 0.995 * min(factor * max(fulfilled, MOST_TIGHTENING), 1 / promised)
        problem, start = met.problem, met.choice
    if kept is not None:
        return kept
    original, mine = pair
    budget_ms = (goal.budget_us(original.median_ms * 1e3) or 0.0) / 1e3
    raise BudgetError(
        f"the budget of {budget_ms:.3f} ms was not met in {ATTEMPTS} tries: the last took {mine.median_ms:.3f} ms, "
        f"{ratio(original, mine).value:.2f}x as fast as the original"
    )
