"""The search without measurements: the candidate of least loss by the predicted latency."""

from __future__ import annotations

from typing import Protocol

from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.solver import Searcher
from edgeprune.search.timings import FeasibleCandidate, Timing


class SearchLoop(Protocol):
    """Finds candidates within a budget, with measurements (`ClosedLoop`) or without (`OpenLoop`)."""

    def meet(self, first: Candidate | None = None) -> FeasibleCandidate:
        """The candidate of least loss within the budget; ``first`` is tried first.

        Raises:
            BudgetError: there is none; the text gives the lowest latency that was found.
        """

    def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
        """The candidate of least loss with ``by`` times the latency of one that was found.

        Raises:
            BudgetError: nothing is predicted to be that fast.
        """


class OpenLoop:
    """Searches once: there is no measurement that could correct the latency model.

    Args:
        problem: the widths and formats to search.
        budget_us: largest predicted latency, microseconds; the margin for the profile's error is already subtracted.
        baseline_us: predicted latency of the original, microseconds.
    """

    def __init__(self, problem: Problem, budget_us: float, baseline_us: float):
        self.problem, self.searcher = problem, Searcher(problem)
        self._budget_us, self._baseline_us = budget_us, baseline_us

    def meet(self, first: Candidate | None = None) -> FeasibleCandidate:
        """The candidate of least loss within the budget.

        Raises:
            BudgetError: nothing is predicted to be that fast; the text names the lowest predicted latency.
        """
        return self._feasible(self.searcher.search(self._budget_us))

    def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
        """The candidate of least loss with ``by`` times the predicted latency.

        Raises:
            BudgetError: nothing is predicted to be that fast; the text names the lowest predicted latency.
        """
        return self._feasible(self.searcher.search(by * feasible.candidate.latency_us))

    def _feasible(self, candidate: Candidate) -> FeasibleCandidate:
        timing = Timing(self._baseline_us, candidate.latency_us)
        return FeasibleCandidate(candidate, timing, self.problem)
