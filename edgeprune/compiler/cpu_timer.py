"""Measures candidates on a CPU by proxy models, beside the original and the unpruned variants."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import onnx_ir as ir

from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed
from edgeprune.latency import INT8, Latency, TimingHarness, same_work
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, ClosedLoop, FeasibleCandidate, Goal, Problem, StartingPoint, Timing, noise
from edgeprune.support import Progress
from edgeprune.timing import Measurement, ratio


@dataclass(eq=False)
class CpuTimer:
    """Times candidates for one goal, on this machine or on a CPU over SSH.

    A proxy model has the kernels and sizes of a candidate, and weights that are only meant for timing. If the goal is a
    speed-up, all latencies are scaled to the speed that the machine had in the first measurement.

    Attributes:
        goal: that the candidates must meet.
        harness: times models.
        proxy: builds a candidate's proxy model.
        deliver: builds a candidate's own model, with recovered weights.
        variants: the unpruned variants, by name.
        variant_model: builds the model of one of these.
        latency: the latency model, before it is corrected.
        progress: shows the progress.
    """

    source: ClassVar[Literal["measured", "analytic"]] = "measured"
    measures: ClassVar[bool] = True
    margin: ClassVar[float] = 1.0

    goal: Goal
    harness: TimingHarness
    proxy: Callable[[Candidate], ir.Model]
    deliver: Callable[[Candidate], ir.Model]
    variants: Mapping[str, Candidate]
    variant_model: Callable[[Candidate], ir.Model]
    latency: Latency
    progress: Progress
    _baseline_us: float | None = None
    _measured: dict[Hashable, Timed] = field(default_factory=dict, repr=False)

    @cached_property
    def _variant_models(self) -> dict[str, ir.Model]:
        return {name: self.variant_model(candidate) for name, candidate in self.variants.items()}

    def timing(self, candidate: Candidate) -> Timing:
        """The latency by a measurement of a few seconds, beside the same other models as in the final one."""
        anchors = {name: model for name, model in self._variant_models.items() if name == INT8}
        return self._paced(self.harness.quick({RESULT: self.proxy(candidate), **anchors}))

    def timing_in_final(self, candidate: Candidate) -> Timing:
        """The latency by the final measurement, which is reused if the candidate becomes the result."""
        timed = self._measured[candidate.key] = self._final(candidate, self.proxy(candidate))
        return self._paced(timed.measured or {})

    def loop(self, problem: Problem, start: StartingPoint) -> ClosedLoop:
        """Finds candidates by measurements, with longer ones for the result."""
        return ClosedLoop(problem, self.goal.needed_us, self.timing, self.timing_in_final, start)

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """The starting point itself: its model was built and scored before."""
        return start.candidate

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """The final latency of a candidate, by its proxy model."""
        candidate = feasible.candidate
        timed = self._measured.pop(candidate.key, None) or self._final(candidate, self.proxy(candidate))
        return replace(timed, candidate=candidate, latency=feasible.problem.latency, search=search)

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same with the candidate's own model, if it has the kernels and sizes of the proxy model."""
        model = self.deliver(timed.candidate)
        if not same_work(model, timed.models[RESULT]):
            return None
        return replace(timed, models={**timed.models, RESULT: model})

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """The final latency of the candidate's own model."""
        key = feasible.candidate.key
        known = next((m for n, m in self._variant_models.items() if self.variants[n].key == key), None)
        timed = self._final(feasible.candidate, known or self.deliver(feasible.candidate))
        return replace(timed, latency=feasible.problem.latency, search=search)

    def beside(self, timed: Timed, variants: Mapping[str, Candidate], models: Mapping[str, ir.Model]) -> Timed:
        """The final measurement of the result beside other variants."""
        every = {RESULT: timed.models[RESULT], **models}
        with self.progress.step("measuring the result") as step:
            measured = self.harness.final(every, step.fraction, self._is_undecided)
        return replace(timed, variants=variants, models=every, measured=measured)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """The latencies, and the device and runtime that they were measured with."""
        if timed.measured is None:
            return None
        original, result = timed.measured[ORIGINAL], timed.measured[returned]
        others = {name: m for name, m in timed.measured.items() if name not in (ORIGINAL, RESULT)}
        h = self.harness
        faster = ratio(original, result)
        return Measured(h.device, h.runtime_version, h.threads, original, result, faster, others, h.baseline_version)

    def _final(self, candidate: Candidate, model: ir.Model) -> Timed:
        """The final measurement; a variant that is equal to the candidate is not measured beside it."""
        others = {n: m for n, m in self._variant_models.items() if self.variants[n].key != candidate.key}
        with self.progress.step("measuring the result") as step:
            measured = self.harness.final({RESULT: model, **others}, step.fraction, self._is_undecided)
        models = {RESULT: model, **others}
        return Timed(candidate, self.latency, self.variants, models, measured)

    def _is_undecided(self, found: Mapping[str, Measurement]) -> bool:
        return self.goal.is_missed_by_chance(found[ORIGINAL], found[RESULT])

    def _paced(self, found: Mapping[str, Measurement]) -> Timing:
        """The timing of the result in a measurement; for a speed-up, at the machine's speed in the first one."""
        relative = self.goal.speedup is not None
        timed = timing_of(found, relative=relative)
        if self._baseline_us is None:
            self._baseline_us = timed.baseline_us
        return timed.at(self._baseline_us) if relative else timed


def timing_of(found: Mapping[str, Measurement], *, relative: bool) -> Timing:
    """The timing of the result in a measurement of the original, the result and, as anchor, the INT8 variant."""
    result, anchor = found[RESULT], found.get(INT8)
    measured_us, speedup = result.median_ms * 1e3, ratio(found[ORIGINAL], result)
    baseline_us = measured_us * speedup.value
    if anchor is not None:
        slower = ratio(anchor, result)
        anchor_us = measured_us * slower.value
        return Timing(baseline_us, measured_us, noise(slower.ci_low, slower.ci_high), anchor_us)
    interval = (speedup.ci_low, speedup.ci_high) if relative else (result.ci_low_ms, result.ci_high_ms)
    return Timing(baseline_us, measured_us, noise(*interval))
