"""A compile session for a CPU: it profiles blocks there, and measures every candidate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from edgeprune.build import ArmBuilder, ModelBuilder, OpenVinoBuilder, X86Builder
from edgeprune.calibration import Calibration
from edgeprune.compiler.cpu_timer import CpuTimer
from edgeprune.compiler.layer_details import with_times
from edgeprune.compiler.opening import Opening
from edgeprune.compiler.session import LEARNABLE, CompileSession, Prices
from edgeprune.importance import Context, LateRankings
from edgeprune.latency import (
    ARM,
    INT8,
    X86,
    ContractionPairs,
    Latency,
    Lowering,
    TimingHarness,
    lowered,
    measured_latency,
    network,
)
from edgeprune.ranks import RankPricer, ranked
from edgeprune.recovery import Moments, Probe
from edgeprune.report import Accuracy, Layer
from edgeprune.search import (
    Candidate,
    Goal,
    JointTrial,
    Pricer,
    Race,
    Raced,
    ScoreCache,
    levels_of,
    no_widths,
    open_joint_trial,
    race_formats,
    typical_ranges,
    uncut,
)
from edgeprune.support import int8_weight_bits

TRIAL_SAMPLE_MACS, TRIAL_SAMPLES = 12e9, (24, 128)
"""A whole candidate is tried on as many samples as this many multiply-accumulates allow, within these bounds. There are
fewer trials of whole candidates than of single changes, so each can use more samples."""

LEFT_OF_QUICK = 0.05
"""Share of the drop of a quick trial that the model that is built has at least: it corrects the errors of earlier
layers, too."""

UNTRIED = "INT8 layers have the form for Arm ({form}: activations are signed); its speed was tested on no board before"


@dataclass(frozen=True, eq=False, kw_only=True)
class CpuSession(CompileSession):
    """A model that was opened, profiled and priced on a CPU.

    Attributes:
        harness: times models.
        data: the samples for refitting weights.
        ranges: of activations, for INT8 in proxy models.
        shared: covariances that were gathered so far, by node.
        files: writes what the runtime needs beside ``model.onnx`` into the output folder; returns notes on it.
        original_us: latency of the original where another runtime runs it than the blocks, measured beside the network
            without cuts in float; None where the blocks in float predict it.
        low_rank: nodes that may become two of low rank.
    """

    block_name: ClassVar[str] = "blocks"
    learns_to_accept: ClassVar[bool] = True
    as_asked: ClassVar[bool] = False

    harness: TimingHarness
    data: Calibration
    ranges: Mapping[str, tuple[float, float]]
    shared: dict[str, Moments]
    files: Callable[[Path], list[str]]
    original_us: float | None = None
    low_rank: tuple[str, ...] = ()
    _taken_quickly: dict[Hashable, bool] = field(default_factory=dict, repr=False)

    def timer(self, goal: Goal) -> CpuTimer:
        """Measures candidates on the CPU."""
        return CpuTimer(
            goal,
            self.harness,
            self.proxy,
            lambda candidate: self.recovered(candidate, goal.limit_of_result),
            self.variants(goal.drop_limit),
            self.variant_model,
            self.latency,
            self.progress,
        )

    @property
    def packages(self) -> tuple[str, ...]:
        """The runtime of the result, where it is not the one that every compile uses."""
        runtime = self.network.lowering.runtime
        return () if runtime == X86.runtime else (runtime,)

    def predicted_baseline_us(self, latency: Latency) -> float:
        """Predicted latency of the original, with all tokens and by its own runtime, microseconds.

        It changes with the pace of the machine, as that of the dense network in float does.
        """
        sizes, names = self.latency.sizes, (self.floating,) * len(self.network.blocks)
        floating_us = latency.total_us(sizes, names)
        if self.whole is not None:
            original_us = self.whole.predicted_baseline_us(self.whole.latency)
        elif self.original_us is not None:
            original_us = self.original_us
        else:
            return floating_us
        return original_us * floating_us / self.latency.total_us(sizes, names)

    def is_acceptable(self, candidate: Candidate, limit: float) -> bool:
        """As for every target; a quick trial decides where it is clear enough, without building the candidate.

        `keeps` checks one that is chosen by that.
        """
        if not self.is_cut(candidate) or self.builder.learning.train is not None or self._is_mistaken:
            return super().is_acceptable(candidate, limit)
        drop = self.evaluator.drop(self.scores.run_of(self._trial.model(candidate)))
        if drop <= limit:
            self._taken_quickly[candidate.key] = True
            return True
        return LEFT_OF_QUICK * drop <= LEARNABLE * limit and super().is_acceptable(candidate, limit)

    def keeps(self, candidate: Candidate, limit: float) -> bool:
        """As for every target; and one that was accepted by a quick trial loses so little as it is built, too."""
        if not self._taken_quickly.get(candidate.key):
            return super().keeps(candidate, limit)
        if super().is_acceptable(candidate, limit):
            return True
        self._taken_quickly[candidate.key] = False
        return False

    @property
    def _is_mistaken(self) -> bool:
        """Whether a quick trial accepted a candidate that was refused as it was built: then no other one decides."""
        return False in self._taken_quickly.values()

    def proxy(self, candidate: Candidate) -> ir.Model:
        """A model with these widths and formats whose weights are only meant for timing."""
        return lowered(self.network, candidate.widths, candidate.formats, self.ranges)

    def variant_model(self, candidate: Candidate) -> ir.Model:
        """The model of an unpruned variant; one in INT8 is cached for the next compile."""
        if set(candidate.formats) == {self.floating}:
            return self.builder.build(candidate.widths, candidate.formats)
        return self.scores.model(candidate)

    def warnings(self, candidate: Candidate, accuracy: Accuracy, goal: Goal) -> list[str]:
        """Why the result is in float although INT8 was asked for; or that its INT8 form was never measured."""
        lowering, has_int8 = self.network.lowering, any(INT8 in f for f in candidate.formats)
        if has_int8 and lowering.int8_name != INT8:
            return [UNTRIED.format(form=lowering.int8_name)]
        asked = goal.quantize and not goal.prune and not goal.has_budget and goal.max_drop is None
        if not asked or has_int8:
            return []
        count = sum(INT8 in forms and bool(forms[INT8]) for forms in self.network.int8_nodes)
        if count and self.raced and any(INT8 in f for f in self.raced[0].candidate.formats):
            if INT8 in self.variants(goal.drop_limit):
                return ["INT8 was asked for, but the best mix with it is not surely faster than what is returned"]
            return [
                f"INT8 was asked for and is faster here, but every mix with it loses more than {goal.drop_limit:g} "
                "points: give more samples, or --max-drop"
            ]
        if count:
            have = "1 block has" if count == 1 else f"{count} blocks have"
            return [f"INT8 was asked for, but it is not faster than float here: {have} an INT8 form"]
        eligible = lowering.int8_eligible(self.opened.dense)
        refused = Counter(str(verdict) for verdict in eligible.values() if not verdict)
        why = f": {refused.most_common(1)[0][0]}" if refused else ""
        return [f"INT8 was asked for, but no layer has an INT8 form{why}"]

    def write_commands(self, model: ir.Model, predicted_ms: float, folder: Path) -> list[str]:
        """Write what the runtime needs beside ``model.onnx``, unless that is the user's own model."""
        return [] if model is self.original else self.files(folder)

    @property
    def open_trial(self) -> Callable[[], JointTrial]:
        """Prepares trials of whole candidates when it is called."""
        return lambda: self._trial

    @cached_property
    def _trial(self) -> JointTrial:
        net, builder = self.network, self.builder
        with self.progress.step("preparing trials"):
            samples = int(np.clip(TRIAL_SAMPLE_MACS / max(net.macs, 1), *TRIAL_SAMPLES))
            probe = Probe(net.model, self.data, samples, builder.threads)
            context = Context(net.model, net.analysis.groups, self.data, shared=self.shared)
            made = open_joint_trial(context, net.analysis, builder, probe, self.ranges, self.low_rank)
            self.shared.clear()
            return made

    def measured_layers(self, layers: tuple[Layer, ...], model: ir.Model) -> tuple[Layer, ...]:
        """The layers with the latency of each in the dense network and in the model, by onnxruntime's profiler."""
        dense = self.opened.dense
        shown = dense if model is self.opened.original else model
        with self.progress.step("timing the layers"):
            return with_times(layers, self.network.blocks, dense, shown, self.harness.trace)


def open_cpu_session(
    opening: Opening,
    may: Goal,
    harness: TimingHarness,
    lowering: Lowering = X86,
    files: Callable[[Path], list[str]] = lambda folder: [],
    *,
    low_rank: bool = True,
) -> CpuSession:
    """Profile the blocks of a model on a CPU, price its formats, and race whole networks.

    Args:
        opening: the model and its data.
        may: whether the model may be pruned and quantized; its budget is not used.
        harness: times models.
        lowering: to the runtime of the harness.
        files: writes what the runtime needs beside ``model.onnx``; returns notes on it.
        low_rank: whether layers may become two of low rank.
    """
    opened, data, cache, progress = opening.opened, opening.fit, opening.cache, opening.progress
    threads, seed = opening.conditions.threads, opening.conditions.seed
    net = network(opened.dense, opened.analysis, opened.fixed, lowering)
    latency = measured_latency(net, harness, quantizable=may.quantize, cuttable=may.prune, seed=seed, progress=progress)
    shared: dict[str, Moments] = {}
    rankings = LateRankings(opened, data, opening.width_cache, seed, progress, shared)
    bits = int8_weight_bits(harness.features)
    kinds: dict[str, type[ModelBuilder]] = {X86.form: X86Builder, ARM.form: ArmBuilder}
    builder = kinds.get(lowering.form, OpenVinoBuilder)(
        opened.dense, net, rankings, data, bits, threads, float_format=lowering.float_format, trained=opened.ranges
    )
    pricer = Pricer(opened.dense, net, rankings, data, builder, threads, progress, cache, opening.width_cache)
    cut = may.prune and bool(opened.analysis.groups)
    low = None
    if low_rank and may.prune:
        low = ranked(latency, net, opened.dense, partial(ContractionPairs, latency), harness.lanes)
    nodes = tuple(low.layers.values()) if low else ()
    expected = opening.announce_cost(net, quantized=may.quantize, cut=cut, measured=True, low_rank=nodes)
    levels, losses = levels_of(net), pricer.formats(latency)
    problem, ranges = uncut(levels, losses, latency, net.twins), dict[str, tuple[float, float]]()
    raced: tuple[Raced, ...] = ()
    if may.quantize:
        ranges = typical_ranges(opened.dense, net, data, builder, cache)
    race, runs_elsewhere = Race(net, ranges, harness, cache), harness.baseline_version is not None
    if may.quantize:
        with progress.step("racing formats"):
            problem, raced = race_formats(problem, latency, race)
    if runs_elsewhere and not race.original_us:
        names = (lowering.float_format,) * len(net.blocks)
        with progress.step("racing formats"):
            race([Candidate(net.sizes, names, latency.total_us(net.sizes, names), 0.0)])
    low_losses = low and RankPricer(low, net, builder, data, progress, cache).with_ranks
    return CpuSession(
        opened=opened,
        target="cpu",
        network=net,
        builder=builder,
        prices=Prices(
            replace(low.latency, base=problem.latency) if low else problem.latency,
            levels,
            lambda: (losses, low_losses(losses) if low_losses else losses),
            lambda: pricer.widths(levels) if may.prune else no_widths(levels),
            net.twins,
        ),
        evaluator=opening.evaluator,
        scores=ScoreCache(
            cache.of(harness.runtime_version), builder, opening.evaluator, lambda model: harness.runtime.load(model).run
        ),
        cache=cache,
        conditions=opening.conditions,
        progress=progress,
        notes=opening.notes,
        raced=raced,
        harness=harness,
        data=data,
        ranges=ranges,
        shared=shared,
        files=files,
        original_us=race.original_us if runs_elsewhere else None,
        low_rank=nodes,
        expected=expected,
    )
