"""The latency of a candidate: the interface of what measures or predicts it, and the prediction without a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, Protocol

import onnx_ir as ir

from edgeprune.backends import DeviceResult
from edgeprune.latency import Latency
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import (
    Candidate,
    FeasibleCandidate,
    Goal,
    OpenLoop,
    Problem,
    SearchLoop,
    StartingPoint,
    Timing,
    search,
)
from edgeprune.timing import Measurement, ratio

ORIGINAL, RESULT = "original", "result"


@dataclass(frozen=True, eq=False)
class Timed:
    """The final latency of a candidate, beside the models that it must beat.

    Attributes:
        candidate: widths and formats; ``latency_us`` is the prediction before any measurement of it.
        latency: the latency model of this prediction.
        variants: the unpruned variants, by name.
        models: the models that were timed, by name of a variant or ``result``, which may be a proxy model at first.
        measured: the original, the result and the variants, from one run; None if the latency is predicted.
        results: engines, versions and clocks from the device, if there is one.
        search: how the candidate was found, for the report.
    """

    candidate: Candidate
    latency: Latency
    variants: Mapping[str, Candidate]
    models: Mapping[str, ir.Model] = field(default_factory=dict)
    measured: Mapping[str, Measurement] | None = None
    results: Mapping[str, DeviceResult] = field(default_factory=dict)
    search: Search | None = None

    def is_met(self, goal: Goal) -> bool:
        """Whether it meets the budget: as measured, or by the prediction of the search."""
        return self.measured is None or goal.is_met(self.measured[ORIGINAL], self.measured[RESULT])

    def is_met_by(self, name: str, goal: Goal, predicted_us: float) -> bool:
        """Whether the original or a variant meets the budget; ``predicted_us`` is the largest allowed prediction."""
        if self.measured is not None:
            return goal.is_met(self.measured[ORIGINAL], self.measured[name])
        return self.variants[name].latency_us <= predicted_us

    def best_other(self) -> str:
        """The fastest of the unpruned variants and, if it was measured, the original."""
        if self.measured is None:
            return min(self.variants, key=lambda name: self.variants[name].latency_us)
        others = {name: m.median_ms for name, m in self.measured.items() if name != RESULT}
        return min(others, key=lambda name: others[name])

    def gain_over(self, name: str) -> float:
        """How many times as fast as another model the candidate is."""
        if self.measured is None:
            return self.variants[name].latency_us / self.candidate.latency_us
        return ratio(self.measured[name], self.measured[RESULT]).value

    def as_variant(self, name: str, floating: str) -> Candidate:
        """The candidate of a variant, with its prediction; the original counts as the float variant."""
        variant = self.variants.get(name, self.variants[floating])
        return replace(variant, latency_us=self.latency.total_us(variant.widths, variant.formats), loss=0.0)

    def variants_ms(self, of_this_network: bool) -> dict[str, float]:
        """The predicted milliseconds of the variants, by its latency model if they are of the candidate's network."""
        return {
            name: (self.latency.total_us(v.widths, v.formats) if of_this_network else v.latency_us) / 1e3
            for name, v in self.variants.items()
        }

    def at_pace_of(self, timing: Timing) -> Timed:
        """The same with predictions scaled from the machine's speed in ``timing`` to that in the final measurement."""
        if self.measured is None:
            return self
        pace = self.measured[ORIGINAL].median_ms * 1e3 / timing.baseline_us
        candidate = replace(self.candidate, latency_us=pace * self.candidate.latency_us)
        return replace(self, candidate=candidate, latency=self.latency.corrected(pace))


class Timer(Protocol):
    """Measures candidates, on this machine or on a device, or predicts them."""

    @property
    def source(self) -> Literal["measured", "analytic"]:
        """The source of the latencies of its latency model."""

    @property
    def measures(self) -> bool:
        """Whether candidates are measured, not predicted."""

    @property
    def margin(self) -> float:
        """The largest allowed prediction is the budget divided by this; 1 if the latency is measured."""

    def timing(self, candidate: Candidate) -> Timing:
        """The latency of a candidate and of the original, by a quick measurement."""

    def loop(self, problem: Problem, start: StartingPoint) -> SearchLoop:
        """Finds the candidate of least loss within the goal's budget."""

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """A candidate that cuts nothing, if the starting point is within the budget."""

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """The latency of a candidate by the final measurement, perhaps of a proxy model."""

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same with the delivered model; None if that has other kernels or sizes than the model that was timed."""

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """As `final`, for the delivered model."""

    def beside(self, timed: Timed, variants: Mapping[str, Candidate], models: Mapping[str, ir.Model]) -> Timed:
        """The same result in a final measurement beside other variants; where it predicts, their predictions."""

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """The latency for the report; None if nothing was measured."""


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

    def beside(self, timed: Timed, variants: Mapping[str, Candidate], models: Mapping[str, ir.Model]) -> Timed:
        """The same beside the predictions of other variants."""
        return replace(timed, variants=variants)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """Nothing was measured."""
        return None
