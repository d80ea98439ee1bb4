"""Predicts candidates by the latency model, where no device is attached: the model's error is kept back as margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from edgeprune.compiler.timer import Timed
from edgeprune.latency import Latency
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, FeasibleCandidate, Goal, OpenLoop, Problem, StartingPoint, Timing, search


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts candidates for one goal.

    Attributes:
        goal: what candidates are to meet.
        latency: of any candidate.
        baseline_us: predicted latency of the original, microseconds.
        variants: the unpruned variants, by name.
        source: where the times of the latency model come from.
    """

    goal: Goal
    latency: Latency
    baseline_us: float
    variants: Mapping[str, Candidate]
    source: Literal["measured", "analytic"]

    @property
    def margin(self) -> float:
        """One and the typical error of the latency model, where there is a budget to keep."""
        return 1 + self.latency.error if self.goal.has_budget else 1.0

    @property
    def _allowed_us(self) -> float:
        return self.goal.needed_us(self.baseline_us) / self.margin

    def timing(self, candidate: Candidate) -> Timing:
        """What the latency model says."""
        return Timing(self.baseline_us, candidate.latency_us)

    def loop(self, problem: Problem, start: StartingPoint) -> OpenLoop:
        """Finds candidates that are predicted to be fast enough even if the prediction is off."""
        return OpenLoop(problem, self._allowed_us, self.baseline_us)

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """The candidate of least loss that cuts nothing and is predicted within the budget."""
        return search(problem, self._allowed_us)

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """What the latency model says; nothing is built for it."""
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
