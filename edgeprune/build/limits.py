"""Limits of a compile beside the latency: energy and memory of a candidate as predicted, before it is measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import onnx_ir as ir

from edgeprune import graph
from edgeprune.build.model_builder import ModelBuilder
from edgeprune.costmodel import BYTES, energy_mj
from edgeprune.dependency import OpenedModel, Widths
from edgeprune.devices import EnergyRates
from edgeprune.latency import AnalyticModel, Format
from edgeprune.passes.prune import prune_channels

MB = 1e6
_STEPS = 7


def predicted_energy_mj(latency: AnalyticModel, widths: Widths, formats: Sequence[Format], rates: EnergyRates) -> float:
    """Millijoules of an inference of a network at these widths and formats."""
    kept = [b for b in range(len(formats)) if not latency.is_gone(b, widths)]
    kernels = [latency.kernel(b, widths) for b in kept]
    return energy_mj(kernels, [latency.precision(b, formats[b]) for b in kept], rates)


def predicted_memory_mb(
    opened: OpenedModel, builder: ModelBuilder, widths: Widths, formats: Sequence[Format]
) -> float | None:
    """Megabytes of weights and activations of a candidate, without building it; None if a shape is not known.

    Activations are counted in float, and made smaller by the share of multiply-accumulates in INT8.
    """
    cut = builder.cut(widths)
    model = opened.sized(prune_channels(opened.dense, opened.analysis, cut) if cut else graph.clone(opened.dense))
    peak = graph.peak_activation_bytes(model)
    if peak is None:
        return None
    wide = BYTES["fp16" if builder.float_format == "fp16" else "fp32"]
    int8 = builder.int8_nodes(model, formats)
    weights = 0.0
    for value in model.graph.initializers.values():
        readers = {str(n.name) for n in value.consumers()}
        weights += math.prod(graph.static_shape(value) or ()) * (
            1 if readers & int8 and len(value.shape or ()) > 1 else wide
        )
    macs = graph.count_macs(model)
    share = sum(count for name, count in macs.items() if name in int8) / max(1, sum(macs.values()))
    return (weights + peak / BYTES["fp32"] * (share + (1 - share) * wide)) / MB


def counted_memory_mb(opened: OpenedModel, model: ir.Model) -> float | None:
    """Megabytes of weights and of the activations that live at once, of a built model; None if a shape is not known."""
    peak = graph.peak_activation_bytes(opened.sized(model))
    weights = sum(
        value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None
    )
    return None if peak is None else (weights + peak) / MB


def latency_within(fast_us: float, slow_us: float, fits: Callable[[float], bool]) -> float | None:
    """The longest latency, between two, whose candidate fits, by bisection of its logarithm; None if none does."""
    if fits(slow_us):
        return slow_us
    if not fits(fast_us):
        return None
    for _ in range(_STEPS):
        middle_us = math.sqrt(fast_us * slow_us)
        fast_us, slow_us = (middle_us, slow_us) if fits(middle_us) else (fast_us, middle_us)
    return fast_us
