"""Measures candidates on a CPU: by proxy models, beside the original and the unpruned variants."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import onnx_ir as ir

from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed
from edgeprune.latency import FLOAT, INT8, Latency, TimingHarness, same_work
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, ClosedLoop, FeasibleCandidate, Goal, Problem, StartingPoint, Timing, noise
from edgeprune.support import Progress
from edgeprune.timing import Measurement, ratio


@dataclass(eq=False)
class CpuTimer:
    """Times candidates for one goal, here or on a CPU at the end of an SSH connection.

    A proxy model has the kernels and sizes of a candidate, and weights that only serve timing. Where a multiple of the
    original's speed is wanted, a candidate takes what it would if the machine still were as fast as it was at first.

    Attributes:
        goal: what candidates are to meet.
        harness: where they are timed.
        proxy: makes a candidate's proxy model.
        deliver: makes a candidate's own model, with recovered weights.
        variants: the unpruned variants, by name.
        variant_model: makes the model of one of these.
        latency: the latency model, before it is corrected.
        progress: told how far it is.
    """

    source: ClassVar[Literal["measured", "analytic"]] = "measured"
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
        """By a measurement of a few seconds, beside the same others as in the final one."""
        anchors = {name: model for name, model in self._variant_models.items() if name != FLOAT}
        return self._paced(self.harness.quick({RESULT: self.proxy(candidate), **anchors}))

    def timing_in_final(self, candidate: Candidate) -> Timing:
        """By the final measurement, which is not made again when the candidate is taken."""
        timed = self._measured[candidate.key] = self._final(candidate, self.proxy(candidate))
        return self._paced(timed.measured or {})

    def loop(self, problem: Problem, start: StartingPoint) -> ClosedLoop:
        """Finds candidates by measurements, the longer ones where they decide."""
        return ClosedLoop(problem, self.goal.needed_us, self.timing, self.timing_in_final, start)

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """The starting point itself: its model is built and scored already."""
        return start.candidate

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """What a candidate takes, by its proxy model."""
        candidate = feasible.candidate
        timed = self._measured.pop(candidate.key, None) or self._final(candidate, self.proxy(candidate))
        return replace(timed, candidate=candidate, latency=feasible.problem.latency, search=search)

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same with the candidate's own model, if that has the kernels and sizes of what was timed."""
        model = self.deliver(timed.candidate)
        if not same_work(model, timed.models[RESULT]):
            return None
        return replace(timed, models={**timed.models, RESULT: model})

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """What the candidate's own model takes."""
        key = feasible.candidate.key
        known = next((m for n, m in self._variant_models.items() if self.variants[n].key == key), None)
        timed = self._final(feasible.candidate, known or self.deliver(feasible.candidate))
        return replace(timed, latency=feasible.problem.latency, search=search)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """The latencies, and where they were measured."""
        if timed.measured is None:
            return None
        original, result = timed.measured[ORIGINAL], timed.measured[returned]
        others = {name: m for name, m in timed.measured.items() if name not in (ORIGINAL, RESULT)}
        h = self.harness
        return Measured(h.device, h.runtime_version, h.threads, original, result, ratio(original, result), others)

    def _final(self, candidate: Candidate, model: ir.Model) -> Timed:
        """The longest measurement; a variant that is the candidate itself is not measured beside it."""
        others = {n: m for n, m in self._variant_models.items() if self.variants[n].key != candidate.key}

        def undecided(found: Mapping[str, Measurement]) -> bool:
            return self.goal.is_missed_by_chance(found[ORIGINAL], found[RESULT])

        with self.progress.step("measuring the result") as step:
            measured = self.harness.final({RESULT: model, **others}, step.fraction, undecided)
        models = {RESULT: model, **others}
        return Timed(candidate, self.latency, self.variants, models, measured)

    def _paced(self, found: Mapping[str, Measurement]) -> Timing:
        """What a measurement says of the result; for a speed-up, at the pace of the first measurement."""
        relative = self.goal.speedup is not None
        timed = concluded(found, relative=relative)
        if self._baseline_us is None:
            self._baseline_us = timed.baseline_us
        return timed.at(self._baseline_us) if relative else timed


def concluded(found: Mapping[str, Measurement], *, relative: bool) -> Timing:
    """What a measurement of the original, the result and perhaps the unpruned INT8 variant says of the result."""
    mine, anchor = found[RESULT], found.get(INT8)
    measured_us, speedup = mine.median_ms * 1e3, ratio(found[ORIGINAL], mine)
    baseline_us = measured_us * speedup.value
    if anchor is not None:
        slower = ratio(anchor, mine)
        anchor_us = measured_us * slower.value
        return Timing(baseline_us, measured_us, noise(slower.ci_low, slower.ci_high), anchor_us)
    interval = (speedup.ci_low, speedup.ci_high) if relative else (mine.ci_low_ms, mine.ci_high_ms)
    return Timing(baseline_us, measured_us, noise(*interval))
