"""Predicts candidates by the latency model if no device is attached, with the error of the model as margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from edgeprune.compiler.timer import Timed
from edgeprune.latency import Latency
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, FeasibleCandidate, Goal, OpenLoop, Problem, StartingPoint, Timing, search


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts candidates for one goal.

    Attributes:
        goal: that the candidates must meet.
        latency: the latency model.
        baseline_us: predicted latency of the original, microseconds.
        variants: the unpruned variants, by name.
        source: of the latencies of the latency model.
    """

    measures: ClassVar[bool] = False

    goal: Goal
    latency: Latency
    baseline_us: float
    variants: Mapping[str, Candidate]
    source: Literal["measured", "analytic"]

    @property
    def margin(self) -> float:
        """1 plus the typical error of the latency model if there is a budget; else 1."""
        return 1 + self.latency.error if self.goal.has_budget else 1.0

    @property
    def _allowed_us(self) -> float:
        return self.goal.needed_us(self.baseline_us) / self.margin

    def timing(self, candidate: Candidate) -> Timing:
        """The predicted latency."""
        return Timing(self.baseline_us, candidate.latency_us)

    def loop(self, problem: Problem, start: StartingPoint) -> OpenLoop:
        """Finds candidates whose predicted latency meets the budget with the margin."""
        return OpenLoop(problem, self._allowed_us, self.baseline_us)

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """The candidate of least loss that cuts nothing and is predicted to meet the budget."""
        return search(problem, self._allowed_us)

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """The predicted latency; nothing is built for it."""
        return Timed(feasible.candidate, feasible.problem.latency, self.variants, search=search)

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same: a prediction cannot be confirmed here."""
        return timed

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """As `final`."""
        return self.final(feasible, search)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """Nothing was measured."""
        return None
