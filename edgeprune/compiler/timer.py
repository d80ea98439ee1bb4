"""What a candidate takes: the interface of everything that measures or predicts latency for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import onnx_ir as ir

from edgeprune.backends import DeviceResult
from edgeprune.latency import Latency
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, FeasibleCandidate, Goal, Problem, SearchLoop, StartingPoint, Timing
from edgeprune.timing import Measurement, ratio

ORIGINAL, RESULT = "original", "result"


@dataclass(frozen=True, eq=False)
class Timed:
    """What a candidate takes in the end, beside what it has to beat.

    Attributes:
        candidate: widths and formats; ``latency_us`` was predicted before anything of it was measured.
        latency: the latency model that this was predicted by.
        variants: the unpruned variants, by name.
        models: what was timed, by name of a variant or ``result``; that one may be a proxy until it is confirmed.
        measured: the original, the result and the variants, from one run; None where the latency is predicted.
        results: what a device said beside the latencies: engines, versions, clocks.
        search: how the candidate was found.
    """

    candidate: Candidate
    latency: Latency
    variants: Mapping[str, Candidate]
    models: Mapping[str, ir.Model] = field(default_factory=dict)
    measured: Mapping[str, Measurement] | None = None
    results: Mapping[str, DeviceResult] = field(default_factory=dict)
    search: Search | None = None

    def is_met(self, goal: Goal) -> bool:
        """Whether it keeps the budget: as measured, or by the prediction that it was searched with."""
        return self.measured is None or goal.is_met(self.measured[ORIGINAL], self.measured[RESULT])

    def is_met_by(self, name: str, goal: Goal, predicted_us: float) -> bool:
        """Whether the original or a variant keeps the budget too; ``predicted_us`` may be predicted at most."""
        if self.measured is not None:
            return goal.is_met(self.measured[ORIGINAL], self.measured[name])
        return self.variants[name].latency_us <= predicted_us

    def best_other(self) -> str:
        """The fastest of the unpruned variants and, where it was measured, the original."""
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
        """The candidate that a variant is, with its prediction; the original counts as the float one."""
        variant = self.variants.get(name, self.variants[floating])
        return replace(variant, latency_us=self.latency.total_us(variant.widths, variant.formats), loss=0.0)

    def at_pace_of(self, timing: Timing) -> Timed:
        """With predictions for the speed that the machine had in the final measurement, not for that of ``timing``."""
        if self.measured is None:
            return self
        pace = self.measured[ORIGINAL].median_ms * 1e3 / timing.baseline_us
        candidate = replace(self.candidate, latency_us=pace * self.candidate.latency_us)
        return replace(self, candidate=candidate, latency=self.latency.corrected(pace))


class Timer(Protocol):
    """Measures candidates, on this machine or on a device, or predicts them."""

    @property
    def source(self) -> Literal["measured", "analytic"]:
        """Where the times of its latency model come from."""

    @property
    def margin(self) -> float:
        """What a budget is divided by to give the latency that may be predicted; 1 where it is measured."""

    def timing(self, candidate: Candidate) -> Timing:
        """What a candidate takes beside the original, quickly."""

    def loop(self, problem: Problem, start: StartingPoint) -> SearchLoop:
        """Finds the candidate of least loss within the goal's budget."""

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """A candidate that cuts nothing, where the starting point is within the budget."""

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """What a candidate takes, by the longest measurement there is; its model may be a proxy."""

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same with the model that is delivered; None where that is other work than what was timed."""

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """As `final`, of the model that is delivered."""

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """What the report says of the latency; None where nothing was measured."""
