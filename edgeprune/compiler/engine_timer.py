"""Measures candidates on an attached device, which builds and times their engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import onnx_ir as ir

from edgeprune.backends import DeviceResult, EngineDevice
from edgeprune.build import TensorRtBuilder
from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed
from edgeprune.errors import BudgetError
from edgeprune.report import Latency as Measured
from edgeprune.report import Search, repeats_of
from edgeprune.search import Candidate, ClosedLoop, FeasibleCandidate, Goal, Problem, StartingPoint, Timing
from edgeprune.support import Progress
from edgeprune.timing import ratio

QUICK_SECONDS = 1.0
FINAL_SECONDS = 3.0
"""Length of one turn on a device; building an engine needs much more time."""

POWER_SECONDS = 5.0
"""Length of the loop for the energy of each final engine, on a device with power sensors."""


@dataclass(eq=False)
class EngineTimer:
    """Builds and times candidates on a device for one goal.

    Attributes:
        goal: that the candidates must meet.
        device: this machine or one over SSH, with TensorRT.
        original: the model as it was given.
        shapes: input name -> shape, of inputs with dynamic dimensions.
        builder: builds candidates.
        deliver: builds a candidate's own model, with recovered weights and after surgery.
        finish: applies surgery to a built model.
        variants: the unpruned variants, by name.
        source: of the latencies of the latency model.
        progress: shows the progress.
        builds: engines of each model that the final measurement times.
    """

    measures: ClassVar[bool] = True
    margin: ClassVar[float] = 1.0

    goal: Goal
    device: EngineDevice
    original: ir.Model
    shapes: Mapping[str, tuple[int, ...]]
    builder: TensorRtBuilder
    deliver: Callable[[Candidate], ir.Model]
    finish: Callable[[ir.Model], ir.Model]
    variants: Mapping[str, Candidate]
    source: Literal["measured", "analytic"]
    progress: Progress
    builds: int = 1
    _original_us: float | None = field(default=None, repr=False)

    @cached_property
    def _proxies(self) -> TensorRtBuilder:
        """Builds proxy models, with weights and ranges that are only meant for timing."""
        return self.builder.for_timing(self.builder.few_samples)

    def timing(self, candidate: Candidate) -> Timing:
        """The latency by the engine of a proxy model; the original is timed once, because the clocks are steady."""
        models = {RESULT: self.finish(self._proxies.build(candidate.widths, candidate.formats))}
        if self._original_us is None:
            models[ORIGINAL] = self.original
        found = self._measure(models, final=False)
        if ORIGINAL in found:
            self._original_us = found[ORIGINAL].latency.median_ms * 1e3
        assert self._original_us is not None
        return Timing(self._original_us, found[RESULT].latency.median_ms * 1e3)

    def loop(self, problem: Problem, start: StartingPoint) -> ClosedLoop:
        """Finds candidates by building and timing them."""
        return ClosedLoop(problem, self.goal.needed_us, self.timing, starting_point=start)

    def uncut(self, problem: Problem, start: StartingPoint) -> Candidate:
        """The candidate of least loss that cuts nothing and measures within the budget."""
        try:
            return self.loop(problem, start).meet().candidate
        except BudgetError:  # measurements vary: the starting point was within the budget before
            return start.candidate

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """The final latencies of the engines of the candidate, the original and the variants, timed in turns."""
        candidate = feasible.candidate
        models = {RESULT: self.deliver(candidate)} | {
            name: self.finish(self.builder.build(v.widths, v.formats))
            for name, v in self.variants.items()
            if v.key != candidate.key
        }
        results = self._measure({ORIGINAL: self.original, **models}, final=True)
        measured = {name: result.latency for name, result in results.items()}
        return Timed(candidate, feasible.problem.latency, self.variants, models, measured, results, search)

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same: the engine of the delivered model was timed."""
        return timed

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """As `final`."""
        return self.final(feasible, search)

    def beside(self, timed: Timed, variants: Mapping[str, Candidate], models: Mapping[str, ir.Model]) -> Timed:
        """The engine of the result, timed in turns with those of other variants."""
        every = {RESULT: timed.models[RESULT], **models}
        results = self._measure({ORIGINAL: self.original, **every}, final=True)
        measured = {name: result.latency for name, result in results.items()}
        return replace(timed, variants=variants, models=every, measured=measured, results=results)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """The latencies, and the device and versions that they were measured with."""
        original, result = timed.results[ORIGINAL], timed.results[returned]
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        others = {name: r.latency for name, r in timed.results.items() if name not in (ORIGINAL, RESULT)}
        speedup = ratio(original.latency, result.latency)
        pairs = zip(original.samples, result.samples, strict=True)
        samples = repeats_of((a.board, a.build, a.latency, b.latency) for a, b in pairs)
        return Measured(
            result.device, versions, None, original.latency, result.latency, speedup, others, samples=samples
        )

    def _measure(self, models: Mapping[str, ir.Model], *, final: bool) -> dict[str, DeviceResult]:
        seconds, power_s = (FINAL_SECONDS, POWER_SECONDS) if final else (QUICK_SECONDS, 0.0)
        builds = self.builds if final else 1
        with self.progress.step(f"building and measuring on {self.device.host.name}"):
            return self.device.measure(models, seconds=seconds, shapes=self.shapes, power_s=power_s, builds=builds)
