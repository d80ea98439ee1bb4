"""The kernels of a model on a target, their latencies, and which of them may be 2:4."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import EngineDevice
from edgeprune.build import SPARSE_STEPS, Options, TensorRtBuilder, formats_of, sparse_fits, tune_placement, tuned
from edgeprune.calibration import Calibration
from edgeprune.compiler.opening import Opening, open_shapes
from edgeprune.costmodel import family_of, kernels_of, model_latency_us
from edgeprune.dependency import OpenedModel, droppable
from edgeprune.devices import Profile
from edgeprune.latency import (
    INT8,
    SPARSE,
    AnalyticModel,
    DeviceProfile,
    Format,
    GpuNetwork,
    KernelPairs,
    Latency,
    MeasuredModel,
    gpu_network,
    is_sparse,
    known_profile,
    known_ratios,
    scaled,
)
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.dequantize import with_pairs
from edgeprune.ranks import Ranked, ranked
from edgeprune.search import FormatLosses, Goal, Pricer, fastest, sparse_losses, uncut

SPARSE_PAYS = 1.03
"""With ``--sparsity auto``, a kernel is made 2:4 only if it is at least this many times as fast as dense, as measured
or published."""

SPARSE_PAYS_IN_ALL = 1.02
"""With ``--sparsity auto``, the losses of 2:4 are not measured unless it can make the whole network at least this many
times as fast: a smaller gain, which costs accuracy too, is not delivered anyway."""

RANK_STEP = 32
"""Ranks are multiples of this: an INT8 kernel takes 32 input channels at a time, one in FP16 takes 16."""

_WITHOUT_ERROR = 1.0

_SCALED = "the analytic latencies were scaled by this device's measurements of the built-in network"


@dataclass(frozen=True, eq=False)
class KernelTimes:
    """The kernels of a network and their latencies.

    Attributes:
        kernels: in all formats, including 2:4 where it is allowed.
        dense_kernels: in all formats except 2:4.
        latency: of the kernels.
        dense_latency: of the dense kernels.
        sparse: whether any node may become 2:4.
        source: of the latencies.
        baseline_us: latency of the original in float32, microseconds.
        notes: sentences for the report.
    """

    kernels: GpuNetwork
    dense_kernels: GpuNetwork
    latency: AnalyticModel | MeasuredModel
    dense_latency: AnalyticModel | MeasuredModel
    sparse: bool
    source: Literal["measured", "analytic"]
    baseline_us: float
    notes: tuple[str, ...]

    def in_float32(self, nodes: Collection[str]) -> KernelTimes:
        """The same kernels, with those led by these nodes priced in FP32 where others are in FP16.

        Nodes that compute integers have a price of their own.
        """
        network = self.kernels.network
        floats = {n.name for n in network.model.graph if any(o.dtype == ir.DataType.FLOAT for o in n.outputs)}
        wide = [b for b, block in enumerate(network.blocks) if block.anchor in floats and block.anchor in nodes]
        return replace(
            self,
            kernels=replace(self.kernels, latency=self.kernels.latency.in_float32(wide)),
            dense_kernels=replace(self.dense_kernels, latency=self.dense_kernels.latency.in_float32(wide)),
            latency=self.latency.in_float32(wide),
            dense_latency=self.dense_latency.in_float32(wide),
        )

    @property
    def priced_sparse(self) -> int:
        """How many blocks have 2:4 formats whose losses are measured, if 2:4 is not asked for."""
        blocks = range(len(self.dense_kernels.network.blocks))
        free = tuple(dict.fromkeys(self.dense_latency.formats(b), 0.0) for b in blocks)
        return sum(map(bool, paying_formats(free, self.kernels, self.latency))) if self.sparse else 0

    def ranked(self, model: ir.Model) -> Ranked | None:
        """The kernels of the canonical model that are faster as two of low rank; None if none is."""
        pairs = partial(KernelPairs, self.kernels.latency)
        return ranked(self.latency, self.kernels.network, model, pairs, RANK_STEP)

    def tuned_on(
        self, device: EngineDevice | None, builder: TensorRtBuilder, opening: Opening, target: str, options: Options
    ) -> KernelTimes:
        """The same kernels, with the times in INT8 that the attached device measures, if that was asked for."""
        if device is None or options.tune_minutes is None:
            return self
        found = tune_placement(
            self.dense_kernels,
            self.dense_latency,
            builder,
            device,
            target=target,
            model=opening.opened.path.name,
            shapes=open_shapes(opening.opened),
            minutes=options.tune_minutes,
            progress=opening.progress,
        )
        if not found.ratios:
            return self
        latency, dense = (tuned(of, found.ratios) for of in (self.latency, self.dense_latency))
        return replace(self, latency=latency, dense_latency=dense, notes=(*self.notes, *found.notes))

    def must_cut(self, goal: Goal, margin: float) -> bool:
        """Whether no network that cuts nothing is predicted to be within the goal's budget over the margin."""
        levels = self.kernels.levels
        if not goal.has_budget or not levels:
            return bool(levels)
        free = tuple(dict.fromkeys(self.latency.formats(b), 0.0) for b in range(len(self.kernels.network.blocks)))
        least_us = fastest(uncut(levels, free, self.latency)).latency_us
        return least_us > goal.needed_us(self.baseline_us) / margin


def kernel_times(opening: Opening, profile: Profile, options: Options) -> KernelTimes:
    """The kernels of a model with the latencies that its device measured, or those of the target's analytic model."""
    opened, formats, mode = opening.opened, formats_of(options.precision, profile), options.power_mode
    fixed = canonicalize(opened.fixed, verify=False)
    measured = known_profile(opened, profile.name, mode, options.profile)
    sparse = _sparse_nodes(fixed, profile, options, measured)
    narrow = INT8 if options.precision == INT8 else formats[0]
    step = profile.channel_step(narrow, "2:4" if options.sparsity == "2:4" else "dense")
    family = family_of((k, 1) for k in kernels_of(fixed))
    error = profile.error.of(family)[0] if profile.error else _WITHOUT_ERROR
    device = profile.device(mode)
    branches = droppable(opened.dense, opened.analysis.groups)
    network = partial(gpu_network, fixed, opened.analysis, device, formats, step=step, error=error, branches=branches)
    dense, kernels = network(), network(sparse=sparse)
    if opened.ranges:  # priced as it arrived: INT8 where it is quantized
        predicted = model_latency_us(with_pairs(_fixed_original(opened)), profile, power_mode=mode)
    else:
        predicted = model_latency_us(fixed, profile, _precision_of(opened), power_mode=mode)
    latency = measured.latency(kernels) if measured is not None else None
    if measured is not None and latency is not None:
        baseline_us = measured.baseline_us or predicted.latency_ms * 1e3
        own = measured.latency(dense) or dense.latency
        return KernelTimes(kernels, dense, latency, own, bool(sparse), "measured", baseline_us, ())
    ratios = known_ratios(profile.name, mode)
    notes = (*predicted.outside, *([_SCALED] if ratios else []))
    level = float(np.median(list(ratios.values()))) if ratios else 1.0
    baseline_us = (measured and measured.baseline_us) or level * predicted.latency_ms * 1e3
    times = scaled(kernels.latency, ratios) if ratios else kernels.latency
    return KernelTimes(kernels, dense, times, dense.latency, bool(sparse), "analytic", baseline_us, notes)


def _fixed_original(opened: OpenedModel) -> ir.Model:
    shapes = {str(v.name): tuple(int(str(d)) for d in v.shape or ()) for v in opened.fixed.graph.inputs}
    return graph.infer_shapes(graph.clone(opened.original), shapes)


def _precision_of(opened: OpenedModel) -> Literal["fp32", "fp16"]:
    """The precision in which the user's model is priced: a half-precision one does not take as long as in FP32."""
    weights = (v for v in opened.original.graph.initializers.values() if v.shape is not None and len(v.shape) > 1)
    half = opened.reference is not None or any(v.dtype == ir.DataType.FLOAT16 for v in weights)
    return "fp16" if half else "fp32"


def _sparse_nodes(
    model: ir.Model, profile: Profile, options: Options, measured: DeviceProfile | None
) -> frozenset[str]:
    """Nodes that may become 2:4: all that fit, if 2:4 was asked for, measured on the device, or published to pay."""
    was_measured = measured is not None and any(is_sparse(n.format) for n in measured.networks)
    if options.sparsity == "none" or (options.sparsity == "auto" and not profile.has_sparse_products):
        return frozenset()
    if options.sparsity == "2:4" or was_measured:
        return sparse_fits(model, min(SPARSE_STEPS.values()))
    published = profile.published_sparse_gains if measured is None else {}
    wide = profile.device(options.power_mode).sparse_channels
    fits = sparse_fits(model, min(SPARSE_STEPS.values())) if published else frozenset()
    return frozenset(
        name
        for kernel in kernels_of(model)
        for name in kernel.nodes
        if name in fits and min(kernel.cin, kernel.cout) // kernel.groups >= wide
    )


def all_sparse(losses: FormatLosses, latency: Latency) -> FormatLosses:
    """The losses of formats if every block that can be 2:4 must be: the loss of 2:4 is the same for all candidates."""
    found = []
    for b, of in enumerate(losses):
        available = latency.formats(b)
        sparse = {f"{f}{SPARSE}": loss for f, loss in of.items() if f"{f}{SPARSE}" in available}
        found.append(sparse or dict(of))
    return tuple(found)


def every_loss(losses: FormatLosses, times: KernelTimes, pricer: Pricer, sparsity: str) -> FormatLosses:
    """The losses of formats, with those of 2:4: in all blocks that can be if that was asked for, else where it pays.

    Args:
        losses: of all other formats.
        times: of the kernels.
        pricer: gave these losses.
        sparsity: ``auto``, ``none`` or ``2:4``.
    """
    if sparsity == "2:4":
        return all_sparse(losses, times.latency)
    if not times.sparse:
        return losses
    assert isinstance(pricer.builder, TensorRtBuilder)
    with pricer.progress.step("pricing 2:4 weights"):
        return with_sparse(losses, times.kernels, pricer.builder, pricer.data, times.latency)


def with_sparse(
    losses: FormatLosses, kernels: GpuNetwork, builder: TensorRtBuilder, data: Calibration, latency: Latency
) -> FormatLosses:
    """The losses of formats, with 2:4 where it is faster as measured on the device, or else as published."""
    paying = paying_formats(losses, kernels, latency)
    if not (blocks := [b for b, formats in enumerate(paying) if formats]):
        return losses
    own = sparse_losses(kernels.network, builder, data, blocks)
    return tuple(dict(of) | {f"{f}{SPARSE}": of[f] + own[b] for f in paying[b]} for b, of in enumerate(losses))


def paying_formats(losses: FormatLosses, kernels: GpuNetwork, latency: Latency) -> list[list[Format]]:
    """Per block, its formats in which 2:4 is worth pricing; none at all if the whole network would gain too little."""
    sizes = latency.sizes
    paying = [
        [
            f
            for f in of
            if f"{f}{SPARSE}" in latency.formats(b)
            and latency.block_us(b, f, sizes) >= SPARSE_PAYS * latency.block_us(b, f"{f}{SPARSE}", sizes)
        ]
        for b, of in enumerate(losses)
    ]
    dense_us = _fastest_us(losses, [()] * len(losses), kernels, latency)
    pays = dense_us >= SPARSE_PAYS_IN_ALL * _fastest_us(losses, paying, kernels, latency)
    return paying if pays else [[] for _ in losses]


def _fastest_us(
    losses: FormatLosses, paying: Sequence[Sequence[Format]], kernels: GpuNetwork, latency: Latency
) -> float:
    """Latency of the uncut network in its fastest formats without regard to their loss, and 2:4 where it pays."""
    free = tuple(
        dict.fromkeys([*of, *(f"{f}{SPARSE}" for f in formats)], 0.0)
        for of, formats in zip(losses, paying, strict=True)
    )
    return fastest(uncut(kernels.levels, free, latency)).latency_us
