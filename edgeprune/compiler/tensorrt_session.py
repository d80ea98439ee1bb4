"""A compile session for TensorRT: kernels are predicted or profiled on the device, models are scored here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import onnx_ir as ir

from edgeprune.backends import DeviceResult, EngineDevice, simulation
from edgeprune.build import (
    Options,
    TensorRtBuilder,
    bench_line,
    command_for,
    formats_of,
    operating_point,
    versions_of,
    write_verify_script,
)
from edgeprune.compiler.engine_timer import EngineTimer
from edgeprune.compiler.kernel_times import every_loss, kernel_times
from edgeprune.compiler.offers import offers
from edgeprune.compiler.opening import Opening, open_shapes
from edgeprune.compiler.session import CompileSession, Prices
from edgeprune.compiler.timer import ORIGINAL, Predictor, Timed
from edgeprune.costmodel import plugin_notes
from edgeprune.devices import Profile
from edgeprune.engine_check import Subject, check_engine, rtx_proof
from edgeprune.errors import BudgetError
from edgeprune.importance import LateRankings
from edgeprune.latency import INT8, SPARSE, GpuNetwork, Latency, is_sparse, overhead_advice, sparse_ground
from edgeprune.ranks import RankPricer
from edgeprune.report import Accuracy, EngineCheck
from edgeprune.search import (
    DEFAULT_MAX_DROP,
    Candidate,
    FormatLosses,
    Goal,
    Pricer,
    Problem,
    ScoreCache,
    WidthLosses,
    all_int8,
    fastest,
    most_accurate_unpruned,
    no_widths,
    stays_float,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class TensorRtSession(CompileSession):
    """A model that was opened and priced for a device with TensorRT.

    Attributes:
        builder: builds the lowered models of candidates.
        profile: of the target.
        options: how the model may be compiled.
        kernels: of the network.
        source: of the latencies of the latency model.
        baseline_us: latency of the original model in float32, microseconds; predicted, unless the device measured it.
        surgery: changes a lowered model before its engine is built.
        device: the attached device, if there is one.
        builds: engines of each model that the final measurement times.
    """

    block_name: ClassVar[str] = "kernels"
    learns_to_accept: ClassVar[bool] = False
    as_asked: ClassVar[bool] = True

    builder: TensorRtBuilder
    profile: Profile
    options: Options
    kernels: GpuNetwork
    source: Literal["measured", "analytic"]
    baseline_us: float
    surgery: Callable[[ir.Model], ir.Model]
    device: EngineDevice | None
    builds: int = 1

    @property
    def original(self) -> ir.Model:
        """The user's model; its float form if it is quantized, because TensorRT takes signed Q/DQ pairs alone."""
        return self.opened.dense if self.opened.lifted else self.opened.original

    def timer(self, goal: Goal) -> EngineTimer | Predictor:
        """Measures candidates on the device, or predicts them if none is attached.

        Raises:
            BudgetError: no candidate is predicted to meet the goal; the text names a budget that can be met.
        """
        if self.device is None:
            self._check_reachable(goal)
            return Predictor(goal, self.latency, self.baseline_us, self.variants(goal.drop_limit), self.source)
        return EngineTimer(
            goal,
            self.device,
            self.original,
            open_shapes(self.opened),
            self.builder,
            lambda candidate: self.finish(self.recovered(candidate, goal.limit_of_result)),
            self.finish,
            self.variants(goal.drop_limit),
            self.source,
            self.progress,
            self.builds,
        )

    def predicted_baseline_us(self, latency: Latency) -> float:
        """Latency of the original; the same for every latency model, because it is not one of the candidates."""
        return self.baseline_us

    def finish(self, model: ir.Model) -> ir.Model:
        """A lowered model after surgery."""
        return self.surgery(model)

    def only_lowered(self, best: Candidate, goal: Goal) -> Candidate:
        """The candidate in INT8 if that was asked for, even beyond the limit; with 2:4 if that was asked for."""
        dense = self.prices.dense
        wants_int8 = goal.quantize and goal.max_drop is None and self.options.precision == INT8
        if goal.all_int8:
            best = all_int8(dense, best)
        elif wants_int8 and INT8 not in self.variants(goal.drop_limit):
            best = most_accurate_unpruned(dense, self.scores.drop) or best
        losses = self.prices.uncut.format_loss
        formats = tuple(f if f in of else f"{f}{SPARSE}" for f, of in zip(best.formats, losses, strict=True))
        return replace(best, formats=formats, latency_us=self.latency.total_us(best.widths, formats))

    def lowered(self, candidate: Candidate, model: ir.Model) -> ir.Model:
        """The model as it was built: surgery may have added plugins, which cannot run on this machine."""
        return self.builder.build(candidate.widths, candidate.formats)

    def proof(self, model: ir.Model) -> list[str]:
        """Notes from a build with TensorRT for RTX, if no device is attached."""
        if self.device is not None:
            return []
        return rtx_proof(self.opened.dense, model, open_shapes(self.opened), self.progress)

    def check(self, returned: str, timed: Timed) -> EngineCheck | None:
        """What the engine of the returned model computes on the device; None without one, or for other outputs."""
        result = timed.results.get(returned)
        if self.device is None or result is None or result.engine is None:
            return None
        model, fed = self.original if returned == ORIGINAL else timed.models[returned], self.evaluator.agreement
        plugins = any(node.domain not in ("", "ai.onnx") for node in model.graph)
        if plugins or len(model.graph.outputs) != len(fed.outputs.names):
            self.progress.note("the engine was not run on samples: what surgery added cannot be simulated here")
            return None
        threads, shapes = self.conditions.threads, open_shapes(self.opened)
        subject = Subject(self.device, model, result.engine, fed.held_out, fed.outputs, shapes, self.progress, threads)
        return check_engine(subject, self.evaluator)

    def write_commands(self, model: ir.Model, predicted_ms: float, folder: Path) -> list[str]:
        """Write a script that builds and times the model on its device, if none is attached."""
        if self.device is not None:
            return []
        shapes = open_shapes(self.opened)
        command, bench = command_for(model, self.profile, shapes), bench_line(self.profile, shapes)
        write_verify_script(folder, command, bench, self.profile, predicted_ms, self.latency.error)
        plugins = plugin_notes(model, self.kernels.latency.device, counted=False)
        return [*plugins, f"to measure it, on the device: {command}", f"or from here: {bench}"]

    def warnings(self, candidate: Candidate, accuracy: Accuracy, goal: Goal) -> list[str]:
        """Why kernels stay in float although INT8 was asked for, and the loss of a precision that was asked for."""
        found = []
        why = stays_float(candidate, self.latency, self.kernels.latency, self.source)
        if self.options.precision == INT8 and why:
            found.append(why)
        mode, model = self.options.power_mode, self.kernels.latency
        found += overhead_advice(model, candidate.widths, candidate.formats, self.profile, mode)
        if self.source == "analytic":
            found += sparse_ground(candidate.formats, self.profile, mode)
        if not goal.prune and goal.max_drop is None and accuracy.drop > DEFAULT_MAX_DROP:
            found.append(f"this precision loses {accuracy.drop:.2f} points; --max-drop limits the loss")
        return found

    def device_notes(self, candidate: Candidate, result: DeviceResult | None) -> list[str]:
        """Whether the device's clocks were locked, and who chose 2:4 kernels."""
        if result is None:
            return []
        found = []
        if result.clocks and result.clocks != "locked":
            found.append(f"the device's clocks were not locked during the measurement: {result.clocks}")
        if (hot := result.conditions.get("throttling", "none")) != "none":
            found.append(f"the device throttled during the measurement: {hot}")
        asked, own = self.profile.power_mode(self.options.power_mode).name, result.conditions.get("power mode")
        if own is not None and own != asked:
            found.append(f"the device is in power mode {own}; the predictions are for {asked}: see --power-mode")
        if any(is_sparse(f) for f in candidate.formats):
            found.append("engines were built with 2:4 kernels allowed; the builder chose them where they were faster")
        return found

    def operating_point(self, result: DeviceResult | None) -> dict[str, str]:
        """Power mode, TensorRT and clocks: of the measurement, or those that the prediction is for."""
        return operating_point(self.profile, self.options.power_mode, result)

    def _check_reachable(self, goal: Goal) -> None:
        """Refuse a budget that no candidate is predicted to meet, and offer others with their losses."""
        if not goal.has_budget:
            return
        levels, latency = self.kernels.levels, self.latency
        none = tuple(dict.fromkeys(latency.formats(b), 0.0) for b in range(len(self.network.blocks)))
        free = Problem(latency, levels, tuple(np.zeros(len(v)) for v in levels), none, tied=self.kernels.tied)
        margin = 1 + latency.error
        least_us, most_us = fastest(free).latency_us, goal.needed_us(self.baseline_us) / margin
        if least_us > most_us:
            raise BudgetError(
                f"the budget of {most_us * margin / 1e3:.3f} ms can't be met: with the profile's error as margin, the "
                f"predicted latency must be at most {most_us / 1e3:.3f} ms, but the fastest network is predicted at "
                f"{least_us / 1e3:.3f} ms, {self.baseline_us / least_us:.2f}x as fast as the original "
                f"({self.baseline_us / 1e3:.3f} ms), without regard to its loss; {offers(self, goal, latency, margin)}"
            )


def open_tensorrt_session(
    opening: Opening,
    may: Goal,
    profile: Profile,
    options: Options,
    surgery: Callable[[ir.Model], ir.Model],
    device: EngineDevice | None,
) -> TensorRtSession:
    """Predict the kernels of a model; its formats and widths are priced when they are needed.

    Args:
        opening: the model and its data.
        may: whether the model may be pruned and quantized; its budget is not used.
        profile: of the target.
        options: how the model may be compiled.
        surgery: changes a lowered model before its engine is built.
        device: the attached device, if there is one.

    Raises:
        TargetError: the device is too old, or has no such power mode.
        ModelError: the latency of the model can't be predicted, or it cannot be lowered.
        ProfileError: the stored measurements do not belong to the model or the target.
    """
    opened, data, cache, progress = opening.opened, opening.fit, opening.cache, opening.progress
    threads, formats = opening.conditions.threads, formats_of(options.precision, profile)
    with progress.step("predicting kernels"):
        times = kernel_times(opening, profile, options)
    rankings = LateRankings(opened, data, opening.width_cache, opening.conditions.seed, progress)
    builder = TensorRtBuilder(
        opened.dense,
        times.kernels.network,
        rankings,
        data,
        threads=threads,
        float_format=formats[0],
        versions=versions_of(profile),
        trained=opened.ranges,
    )
    with progress.step("looking for what FP16 cannot hold"):
        times = times.in_float32(builder.fp32_reasons())
    times = times.tuned_on(device, builder, opening, profile.name, options)
    dense = times.dense_kernels.network
    low = times.ranked(opened.dense) if may.prune and options.rank == "auto" else None
    latency = low.latency if low else times.latency
    ranks = RankPricer(low, times.kernels.network, builder, data, progress, cache) if low else None
    pricer = Pricer(opened.dense, dense, rankings, data, builder, threads, progress, cache, opening.width_cache)

    def price_formats() -> tuple[FormatLosses, FormatLosses]:
        losses = pricer.formats(times.dense_latency)
        every = every_loss(losses, times, pricer, options.sparsity)
        return losses, ranks.with_ranks(every) if ranks else every

    quantized = any(len(times.dense_latency.formats(b)) > 1 for b in range(len(dense.blocks)))
    cut = may.prune and times.must_cut(may, 1.0 if device is not None else 1 + times.latency.error)
    sparse = 0 if options.sparsity == "2:4" else times.priced_sparse
    nodes = list(low.layers.values()) if low else []
    expected = opening.announce_cost(dense, quantized=quantized, cut=cut, measured=False, sparse=sparse, low_rank=nodes)

    def price_widths() -> WidthLosses:
        return pricer.widths(times.kernels.levels) if may.prune else no_widths(times.kernels.levels)

    return TensorRtSession(
        opened=opened,
        target=profile.name,
        network=times.kernels.network,
        builder=builder,
        prices=Prices(latency, times.kernels.levels, price_formats, price_widths, dense.twins, times.kernels.tied),
        evaluator=opening.evaluator,
        scores=ScoreCache(cache, builder, opening.evaluator, lambda model: simulation.load(model, threads).run),
        cache=cache,
        conditions=opening.conditions,
        progress=progress,
        notes=(*opening.notes, *times.notes),
        profile=profile,
        options=options,
        kernels=times.kernels,
        source=times.source,
        baseline_us=times.baseline_us,
        surgery=surgery,
        device=device,
        expected=expected,
    )
