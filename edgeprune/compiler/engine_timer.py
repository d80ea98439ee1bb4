"""Measures candidates on an attached device: their engines are built and timed there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import onnx_ir as ir

from edgeprune.backends import Device, DeviceResult
from edgeprune.build import EXTREMES_ITEMS, TensorRtBuilder
from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed
from edgeprune.errors import BudgetError
from edgeprune.report import Latency as Measured
from edgeprune.report import Search
from edgeprune.search import Candidate, ClosedLoop, FeasibleCandidate, Goal, Problem, StartingPoint, Timing
from edgeprune.support import Progress
from edgeprune.timing import ratio

QUICK_SECONDS = 1.0
FINAL_SECONDS = 3.0
"""How long each of a device's turns takes; building an engine takes much longer anyway."""


@dataclass(eq=False)
class EngineTimer:
    """Builds and times candidates on a device for one goal.

    Attributes:
        goal: what candidates are to meet.
        device: this machine or one over SSH, with TensorRT.
        original: the model as it came in.
        shapes: input name -> shape, of inputs that leave sizes open.
        builder: builds candidates.
        deliver: makes a candidate's own model, with recovered weights and after surgery.
        finish: what surgery does to a built model.
        variants: the unpruned variants, by name.
        source: where the times of the latency model come from.
        progress: told how far it is.
    """

    margin: ClassVar[float] = 1.0

    goal: Goal
    device: Device
    original: ir.Model
    shapes: Mapping[str, tuple[int, ...]]
    builder: TensorRtBuilder
    deliver: Callable[[Candidate], ir.Model]
    finish: Callable[[ir.Model], ir.Model]
    variants: Mapping[str, Candidate]
    source: Literal["measured", "analytic"]
    progress: Progress
    _original_us: float | None = field(default=None, repr=False)

    @cached_property
    def _proxies(self) -> TensorRtBuilder:
        """Builds networks with weights and ranges that only serve timing."""
        return self.builder.for_timing(self.builder.data.subset(EXTREMES_ITEMS))

    def timing(self, candidate: Candidate) -> Timing:
        """By the engine of a proxy model; the original's is built and timed once, since the clocks stay."""
        models = {RESULT: self.finish(self._proxies.build(candidate.widths, candidate.formats))}
        if self._original_us is None:
            models[ORIGINAL] = self.original
        found = self._measure(models, QUICK_SECONDS)
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
        except BudgetError:  # measurements differ: the starting point was within the budget
            return start.candidate

    def final(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """What the engine of a candidate takes, and those of the original and the variants, in turns."""
        candidate = feasible.candidate
        models = {RESULT: self.deliver(candidate)} | {
            name: self.finish(self.builder.build(v.widths, v.formats))
            for name, v in self.variants.items()
            if v.key != candidate.key
        }
        results = self._measure({ORIGINAL: self.original, **models}, FINAL_SECONDS)
        measured = {name: result.latency for name, result in results.items()}
        return Timed(candidate, feasible.problem.latency, self.variants, models, measured, results, search)

    def confirmed(self, timed: Timed) -> Timed | None:
        """The same: the engine of the model itself was timed."""
        return timed

    def final_of_model(self, feasible: FeasibleCandidate, search: Search | None = None) -> Timed:
        """As `final`."""
        return self.final(feasible, search)

    def report(self, timed: Timed, returned: str) -> Measured | None:
        """The latencies, and on which device with which versions they were measured."""
        original, result = timed.results[ORIGINAL], timed.results[returned]
        versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
        others = {name: r.latency for name, r in timed.results.items() if name not in (ORIGINAL, RESULT)}
        speedup = ratio(original.latency, result.latency)
        return Measured(result.device, versions, None, original.latency, result.latency, speedup, others)

    def _measure(self, models: Mapping[str, ir.Model], seconds: float) -> dict[str, DeviceResult]:
        with self.progress.step(f"building and measuring on {self.device.host.name}"):
            return self.device.measure(models, seconds=seconds, shapes=self.shapes)
