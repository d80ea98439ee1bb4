"""A model made ready for a GPU: its launches with their times, its choices with their losses, and what scores them.

Times are the device's own where it was measured (`edgeprune.latency.device_profile`), else those of the target's
analytic model.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune.backends import OnnxRuntime, simulation
from edgeprune.build import SPARSE_STEPS, Options, TensorRtBuilder, formats_of, sparse_fits, versions_of
from edgeprune.calibration import ArrayCache, Calibration, Evaluator
from edgeprune.costmodel import model_latency_us
from edgeprune.dependency import OpenedModel
from edgeprune.devices import Profile
from edgeprune.errors import BudgetError
from edgeprune.importance import LateRankings
from edgeprune.latency import (
    INT8,
    SPARSE,
    DeviceProfile,
    Format,
    GpuNetwork,
    Latency,
    gpu_network,
    is_int8,
    is_sparse,
    known_profile,
    known_ratios,
    scaled,
)
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.report import Accuracy
from edgeprune.search import (
    Candidate,
    FormatLosses,
    Goal,
    Pricer,
    Problem,
    WidthLosses,
    best_unpruned,
    fastest,
    no_widths,
    sparse_losses,
    uncut,
)
from edgeprune.support import Progress

SPARSE_PAYS = 1.03
"""Without being told, a launch is only made 2:4 where that was measured so many times as fast as dense."""

_WITHOUT_ERROR = 1.0

_SCALED = "the analytic times were scaled by what this device measured of the built-in network"


@dataclass(frozen=True, eq=False)
class DeviceWork:
    """All that is known of a model on a target before anything is chosen.

    Attributes:
        opened: the model.
        profile: of the target.
        options: how it may be compiled.
        gpu: its launches.
        latency: of any choice, measured or analytic.
        measured: what the device measured of it, None if nothing.
        builder: turns choices into lowered models.
        dense_problem: what there is to choose from without cutting anything, and without 2:4.
        format_loss: the losses of formats where 2:4 is wanted, with it.
        price_widths: ranks the units and prices what there is to cut, once.
        evaluator: what scores them.
        baseline_us: time of the model as it came in, in float32; predicted, unless the device measured it.
        notes: sentences for people.
        progress: told what is going on.
    """

    opened: OpenedModel
    profile: Profile
    options: Options
    gpu: GpuNetwork
    latency: Latency
    measured: DeviceProfile | None
    builder: TensorRtBuilder
    dense_problem: Problem
    format_loss: FormatLosses
    price_widths: Callable[[], WidthLosses]
    evaluator: Evaluator
    baseline_us: float
    notes: tuple[str, ...]
    progress: Progress
    _scores: dict[Hashable, Accuracy] = field(default_factory=dict)

    @property
    def floating(self) -> Format:
        """The float format of its launches."""
        return self.builder.float_format

    @property
    def source(self) -> Literal["measured", "analytic"]:
        """Where its times come from."""
        return "analytic" if self.measured is None else "measured"

    @property
    def uncut(self) -> Problem:
        """What there is to choose from without cutting anything."""
        return replace(self.dense_problem, format_loss=self.format_loss)

    @property
    def problem(self) -> Problem:
        """What there is to choose from; units are ranked and widths priced when it is first asked for."""
        levels, losses = self.price_widths()
        return replace(self.uncut, levels=levels, width_loss=losses)

    def accuracy(self, candidate: Candidate) -> Accuracy:
        """How good a choice is, as lowered; every choice is scored once."""
        if candidate.key not in self._scores:
            model = self.builder.build(candidate.widths, candidate.formats)
            self._scores[candidate.key] = self.evaluator.accuracy(simulation.load(model, self.options.threads).run)
        return self._scores[candidate.key]

    def drop(self, candidate: Candidate) -> float:
        """Points that a choice loses."""
        return self.accuracy(candidate).drop

    def recover(self, candidate: Candidate) -> None:
        """Learn the weights of a cut choice from the dense network, where that brings what is built of it closer."""
        with self.progress.step("recovering accuracy"):
            if self.builder.recover(candidate.widths, candidate.formats, self.progress):
                self._scores.pop(candidate.key, None)

    def original_accuracy(self) -> Accuracy:
        """How good the model is as it came in."""
        return self.evaluator.accuracy(OnnxRuntime(self.options.threads).load(self.opened.path).run)

    def variants(self, limit: float) -> dict[str, Candidate]:
        """The unpruned network in float, and in integers where that costs no more than the limit."""
        sizes, names = self.latency.sizes, [self.floating] * len(self.gpu.network.blocks)
        found = {self.floating: Candidate(sizes, tuple(names), self.latency.total_us(sizes, names), 0.0)}
        quantizable = any(is_int8(f) for losses in self.dense_problem.format_loss for f in losses)
        if quantizable and (integers := best_unpruned(self.dense_problem, self.drop, limit)) is not None:
            found[INT8] = integers
        return found

    def sparsified(self, candidate: Candidate) -> Candidate:
        """The choice with 2:4 weights wherever the problem has nothing else."""
        formats = tuple(
            f if f in losses else f"{f}{SPARSE}" for f, losses in zip(candidate.formats, self.format_loss, strict=True)
        )
        return replace(candidate, formats=formats, latency_us=self.latency.total_us(candidate.widths, formats))


def open_device_work(
    opened: OpenedModel,
    goal: Goal,
    data: Calibration,
    evaluator: Evaluator,
    profile: Profile,
    known: ArrayCache,
    options: Options,
    progress: Progress,
    *,
    at_hand: bool,
) -> DeviceWork:
    """Describe a model's launches and price their formats; what can be cut is priced when it is needed.

    ``at_hand``: whether the device will tell what can be met; otherwise the prediction does, before any work.

    Raises:
        BudgetError: if the goal can't be met, whatever is lost; the text says what can.
        TargetError: the device is too old, or has no such power mode.
        ModelError: the model cannot be described or lowered.
        ProfileError: what was measured does not belong to it.
    """
    device, versions = profile.device(options.power_mode), versions_of(profile)
    formats = formats_of(options.precision, profile)
    with progress.step("predicting launches"):
        fixed = canonicalize(opened.fixed, verify=False)
        measured = known_profile(opened, profile.name, options.power_mode, options.profile)
        sparse = _sparse_nodes(fixed, profile, options, measured)
        narrow = INT8 if options.precision == INT8 else formats[0]
        step = profile.channel_step(narrow, "2:4" if options.sparsity == "2:4" else "dense")
        error = profile.error.median if profile.error else _WITHOUT_ERROR
        dense = gpu_network(fixed, opened.analysis, device, formats, step=step, error=error)
        gpu = gpu_network(fixed, opened.analysis, device, formats, step=step, error=error, sparse=sparse)
        latency = measured.latency(gpu) if measured is not None else None
        predicted = model_latency_us(fixed, profile, "fp32", power_mode=options.power_mode)
        ratios = {} if latency is not None else known_ratios(profile.name, options.power_mode)
        notes = () if latency is not None else (*predicted.outside, *([_SCALED] if ratios else []))
        levels = scaled(gpu.latency, ratios) if ratios else gpu.latency
        times: Latency = latency or levels
        level = float(np.median(list(ratios.values()))) if ratios else 1.0
        baseline_us = (measured and measured.baseline_us) or level * predicted.latency_ms * 1e3
        if not at_hand:
            _check_reachable(gpu, times, goal, baseline_us)
    rankings = LateRankings(opened, data, known, options.seed, progress)
    builder = TensorRtBuilder(
        opened.dense, gpu.network, rankings, data, threads=options.threads, float_format=formats[0], versions=versions
    )
    pricer = Pricer(
        opened.dense, dense.network, rankings, data, builder, options.threads, progress, known, rankings.shared
    )
    own_times = measured.latency(dense) if measured is not None else None
    dense_problem = uncut(gpu.levels, pricer.formats(own_times or dense.latency), times)
    format_loss = dense_problem.format_loss
    if options.sparsity == "2:4":
        format_loss = _all_sparse(dense_problem, times)
    elif sparse:
        with progress.step("pricing 2:4 weights"):
            format_loss = _with_sparse(dense_problem, gpu, builder, data, times)

    @functools.cache
    def price_widths() -> WidthLosses:
        priced = pricer.widths(gpu.levels) if goal.prune else no_widths(gpu.levels)
        rankings.shared.clear()
        return priced

    return DeviceWork(
        opened,
        profile,
        options,
        gpu,
        times,
        measured if latency is not None else None,
        builder,
        dense_problem,
        format_loss,
        price_widths,
        evaluator,
        baseline_us,
        notes,
        progress,
    )


def _sparse_nodes(
    model: ir.Model, profile: Profile, options: Options, measured: DeviceProfile | None
) -> frozenset[str]:
    """Nodes that may become 2:4: asked for, or measured on the device."""
    was_measured = measured is not None and any(is_sparse(n.format) for n in measured.networks)
    if options.sparsity == "2:4" or (options.sparsity == "auto" and profile.has_sparse_products and was_measured):
        return sparse_fits(model, min(SPARSE_STEPS.values()))
    return frozenset()


def _all_sparse(problem: Problem, latency: Latency) -> FormatLosses:
    """Format losses where what can be 2:4 must be: what 2:4 itself costs is the same for all choices."""
    found = []
    for b, losses in enumerate(problem.format_loss):
        available = latency.formats(b)
        sparse = {f"{f}{SPARSE}": loss for f, loss in losses.items() if f"{f}{SPARSE}" in available}
        found.append(sparse or dict(losses))
    return tuple(found)


def _with_sparse(
    problem: Problem, gpu: GpuNetwork, builder: TensorRtBuilder, data: Calibration, latency: Latency
) -> FormatLosses:
    """The losses of formats, with 2:4 where the device measured that it pays."""
    sizes = latency.sizes
    paying = [
        [
            f
            for f in losses
            if f"{f}{SPARSE}" in latency.formats(b)
            and latency.block_us(b, f, sizes) >= SPARSE_PAYS * latency.block_us(b, f"{f}{SPARSE}", sizes)
        ]
        for b, losses in enumerate(problem.format_loss)
    ]
    own = sparse_losses(gpu.network, builder, data, [b for b, formats in enumerate(paying) if formats])
    return tuple(
        dict(losses) | {f"{f}{SPARSE}": losses[f] + own[b] for f in paying[b]}
        for b, losses in enumerate(problem.format_loss)
    )


def allowed_us(goal: Goal, baseline_us: float, margin: float) -> float:
    """What the prediction may say so that the device keeps the budget although the prediction is off."""
    budget_us = goal.budget_us(baseline_us)
    return float("inf") if budget_us is None else budget_us / margin


def _check_reachable(gpu: GpuNetwork, latency: Latency, goal: Goal, baseline_us: float) -> None:
    """Refuse a budget that nothing can meet before any work is done for it.

    Raises:
        BudgetError: the text says what can be met.
    """
    if not goal.has_budget:
        return
    blocks: Sequence[int] = range(len(gpu.network.blocks))
    free = Problem(
        latency,
        gpu.levels,
        tuple(np.zeros(len(v)) for v in gpu.levels),
        tuple(dict.fromkeys(latency.formats(b), 0.0) for b in blocks),
    )
    margin = 1 + latency.error
    least_us, most_us = fastest(free).latency_us, allowed_us(goal, baseline_us, margin)
    if least_us > most_us:
        raise BudgetError(
            f"the budget of {most_us * margin / 1e3:.3f} ms can't be met: with the profile's error as margin "
            f"{most_us / 1e3:.3f} ms may be predicted, and the fastest network is predicted to take "
            f"{least_us / 1e3:.3f} ms, {baseline_us / least_us:.2f}x as fast as the original "
            f"({baseline_us / 1e3:.3f} ms); --latency-ms {np.ceil(least_us * margin) / 1e3:.3f} can be met"
        )
