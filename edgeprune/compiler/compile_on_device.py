"""Compile for a GPU that is at hand: plan, build and time there, correct the plan's times, and plan again.

The device may be this machine or one over SSH. What is returned was measured there, beside the model as it came in and
the best unpruned variants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import onnx_ir as ir

from edgeprune.backends import Device, DeviceResult
from edgeprune.build import EXTREMES_ITEMS, TensorRtBuilder
from edgeprune.compiler.assemble import describe_formats
from edgeprune.compiler.compile_device import NEVER_SLOWER, choose, is_cut
from edgeprune.compiler.devicework import DeviceWork
from edgeprune.report import Outcome
from edgeprune.search import Candidate, ClosedLoop, Goal, Timing, build_within
from edgeprune.timing import Measurement, ratio

QUICK_SECONDS = 1.0
FINAL_SECONDS = 3.0
"""How long each of a device's turns takes; building an engine takes much longer anyway."""

ORIGINAL, RESULT = "original", "result"


@dataclass(frozen=True, eq=False)
class Measured:
    """What came out.

    Attributes:
        returned: ``result``, ``original``, or the name of a variant.
        model: what is returned, as built.
        candidate: its widths and formats, with the time that was predicted for it before it was measured.
        outcome: what it is and why.
        results: of the original, the result and the variants, from one run.
        models: these models.
    """

    returned: str
    model: ir.Model
    candidate: Candidate
    outcome: Outcome
    results: Mapping[str, DeviceResult]

    def latency(self, name: str) -> Measurement:
        """What one of the models took."""
        return self.results[name].latency

    @property
    def measured(self) -> dict[str, Measurement]:
        """The original and what is returned, from one run."""
        return {ORIGINAL: self.latency(ORIGINAL), RESULT: self.latency(self.returned)}


@dataclass(eq=False)
class TimingHarness:
    """Builds and times choices on the device.

    Attributes:
        work: the model.
        device: the device.
        shapes: input name -> shape, of inputs that leave sizes open.
        finish: what is done to every lowered model before its engine is built (surgery).
    """

    work: DeviceWork
    device: Device
    shapes: Mapping[str, tuple[int, ...]]
    finish: Callable[[ir.Model], ir.Model]
    _original_us: float | None = None
    _plain: TensorRtBuilder | None = field(default=None, repr=False)

    def timing(self, candidate: Candidate) -> Timing:
        """Time of a network of these widths and formats, whose weights only serve timing."""
        model = self.finish(self._timing_builder().build(candidate.widths, candidate.formats))
        models = {RESULT: model} | ({} if self._original_us else {ORIGINAL: self.work.opened.original})
        found = self._measure(models, QUICK_SECONDS)
        if ORIGINAL in found:
            # With clocks that stay, the original need not be built and timed again.
            self._original_us = found[ORIGINAL].latency.median_ms * 1e3
        assert self._original_us is not None
        return Timing(self._original_us, found[RESULT].latency.median_ms * 1e3)

    def final(self, models: Mapping[str, ir.Model]) -> dict[str, DeviceResult]:
        """Latency of the original and of all models, measured in turns."""
        return self._measure({ORIGINAL: self.work.opened.original, **models}, FINAL_SECONDS)

    def _measure(self, models: Mapping[str, ir.Model], seconds: float) -> dict[str, DeviceResult]:
        with self.work.progress.step(f"building and measuring on {self.device.host.name}"):
            return self.device.measure(models, seconds=seconds, shapes=self.shapes)

    def _timing_builder(self) -> TensorRtBuilder:
        if self._plain is None:
            builder = self.work.builder
            self._plain = builder.for_timing(builder.data.subset(EXTREMES_ITEMS))
        return self._plain


def reach_on_device(work: DeviceWork, goal: Goal, harness: TimingHarness) -> Measured:
    """Find, build and measure the best network for the goal.

    Raises:
        BudgetError: if the goal can't be met; the text says what can.
        BackendError: the device cannot be reached, or does not take a model.
    """
    with work.progress.step("finding the best unpruned variant"):
        variants = work.variants(goal.drop_limit)
    if not goal.has_budget:
        return _measured(work, goal, harness, _without_budget(work, goal, harness, variants), variants)

    loop = ClosedLoop(work.problem, goal.needed_us, harness.timing)
    return build_within(
        goal, loop.meet(), loop.adjusted, lambda feasible: _measured(work, goal, harness, feasible.candidate, variants)
    )


def _without_budget(work: DeviceWork, goal: Goal, harness: TimingHarness, variants: dict[str, Candidate]) -> Candidate:
    """The fastest choice that loses little enough, by times that the best variant's measurement has corrected."""
    if not (goal.prune and len(work.latency.sizes)):
        return choose(work, goal, variants, float("inf"))
    best = min(variants.values(), key=lambda c: c.latency_us)
    factor = harness.timing(best).measured_us / best.latency_us
    latency = work.latency.corrected(factor)
    corrected = replace(work, latency=latency, dense_problem=replace(work.dense_problem, latency=latency))
    again = {name: replace(c, latency_us=factor * c.latency_us) for name, c in variants.items()}
    return choose(corrected, goal, again, float("inf"))


def _measured(
    work: DeviceWork, goal: Goal, harness: TimingHarness, candidate: Candidate, variants: Mapping[str, Candidate]
) -> Measured:
    candidates = {RESULT: candidate, **variants}
    if is_cut(work, candidate):
        work.recover(candidate)  # before its engine is built, which holds its weights
    with work.progress.step("building the result"):
        models = {name: harness.finish(work.builder.build(c.widths, c.formats)) for name, c in candidates.items()}
    results = harness.final(models)
    returned, outcome = decide(
        {name: r.latency for name, r in results.items()}, goal, candidate, is_cut(work, candidate)
    )
    models[ORIGINAL] = work.opened.original
    floats = variants[work.floating]
    return Measured(returned, models[returned], candidates.get(returned, floats), outcome, results)


def decide(measured: Mapping[str, Measurement], goal: Goal, candidate: Candidate, cut: bool) -> tuple[str, Outcome]:
    """Which of the measured models to return: the result, unless something that was not cut is as fast.

    Args:
        measured: original, result and variants.
        goal: what was asked for.
        candidate: what the result is.
        cut: whether it removes anything.
    """
    original = measured[ORIGINAL]
    best = min((name for name in measured if name != RESULT), key=lambda name: measured[name].median_ms)
    called = "the original" if best == ORIGINAL else f"the unpruned {best} variant"
    gain = ratio(measured[best], measured[RESULT]).value
    formats = describe_formats(candidate.formats)
    if not cut and best != ORIGINAL and not goal.prune:
        kind = _kind(candidate)
        return RESULT, Outcome(kind, not goal.has_budget, f"Nothing was cut, as asked: launches {formats}.")
    if gain >= NEVER_SLOWER or (goal.has_budget and not goal.is_met(original, measured[best])):
        what = "Widths and precision were chosen together" if cut else "Nothing had to be cut"
        reason = f"{what}: launches {formats}; {gain:.2f}x as fast as {called}."
        return RESULT, Outcome("compressed" if cut else _kind(candidate), gain >= NEVER_SLOWER, reason)
    what = "Pruning does not pay here: the pruned network" if cut else "Nothing pays here: the chosen network"
    reason = f"{what} is {gain:.2f}x as fast as {called}, which is returned."
    return best, Outcome(ORIGINAL if best == ORIGINAL else f"unpruned-{best}", False, reason)


def _kind(candidate: Candidate) -> str:
    return (
        "unpruned-int8" if any(f.startswith("int8") for f in candidate.formats) else f"unpruned-{candidate.formats[0]}"
    )
