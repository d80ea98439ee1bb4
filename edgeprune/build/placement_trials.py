"""Which kernels are faster with Q/DQ round them, measured on the device: an engine in INT8 with one kind left in float.

All kernels of the same work are left in float together. The engine is timed in turns with the one in which every kernel
that can be is in INT8. What was measured is kept for other models (`edgeprune.build.placement_times`), so a run that
was interrupted, or that reached its time, goes on where it stopped. The method is that of Model Optimizer's autotuning
of Q/DQ (NVIDIA, 2026), with kernels as regions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.backends import EngineDevice
from edgeprune.build.placement_times import KernelRatio, PlacementTimes, signature
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.latency import (
    INT8,
    AnalyticModel,
    Format,
    GpuNetwork,
    MeasuredModel,
)
from edgeprune.support import Progress, plural
from edgeprune.timing import Measurement, sigmas

TOGETHER = 3
"""Kinds of kernels that are tried in one measurement, beside the engine that has them all in INT8."""

SECONDS = 1.0

PRIOR_ERROR = 0.3
"""Relative error of a predicted time in INT8: what it weighs against the noise of a measurement."""

LEAST_RATIO = 0.1
"""No kernel is more than ten times as fast in INT8: what a measurement says beyond that is noise."""


@dataclass(frozen=True)
class Placement:
    """What is known of the kernels of a network.

    Attributes:
        ratios: block -> its time in INT8 as a share of that in float.
        notes: a sentence for the report.
    """

    ratios: Mapping[int, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Network:
    """A network whose kernels are tried: its latency model, and how it is built."""

    latency: AnalyticModel | MeasuredModel
    builder: TensorRtBuilder
    int8: tuple[Format, ...]
    floating: Format

    def without(self, blocks: list[int]) -> tuple[Format, ...]:
        return tuple(self.floating if b in blocks else f for b, f in enumerate(self.int8))

    def model(self, formats: tuple[Format, ...]) -> ir.Model:
        return self.builder.build(self.latency.sizes, formats)


def tune_placement(
    kernels: GpuNetwork,
    latency: AnalyticModel | MeasuredModel,
    builder: TensorRtBuilder,
    device: EngineDevice,
    *,
    target: str,
    model: str,
    shapes: Mapping[str, tuple[int, ...]],
    minutes: float,
    progress: Progress,
) -> Placement:
    """Measure which kernels of a network are faster in INT8 than in float.

    Args:
        kernels: of the network, dense weights.
        latency: of these kernels.
        builder: builds the network.
        device: on which engines are built and timed.
        target: name of the target.
        model: file name of the model, to be kept with what was measured.
        shapes: input name -> shape, for inputs with an open size.
        minutes: no other measurement is started after this time.
        progress: shows the progress.

    Raises:
        BackendError: the device cannot be reached, or does not accept an engine.
        UsageError: the cache folder cannot be written.
    """
    analytic, kinds = kernels.latency, dict[str, list[int]]()
    floating = builder.float_format
    for block in range(len(kernels.network.blocks)):
        if {INT8, floating} <= set(latency.formats(block)):
            kinds.setdefault(signature(analytic, block), []).append(block)
    found = PlacementTimes(target=target, facts=device.facts()).known()
    int8 = tuple(INT8 if INT8 in latency.formats(b) else floating for b in range(len(kernels.network.blocks)))
    network = _Network(latency, builder.for_timing(builder.few_samples), int8, floating)
    fresh = [kind for kind in kinds if kind not in found.ratios]
    fresh.sort(key=lambda kind: -sum(latency.block_us(b, floating, latency.sizes) for b in kinds[kind]))
    began, left = time.monotonic(), list(fresh)
    level = 1.0
    with progress.step("measuring where INT8 is faster", max(1, len(fresh))) as step:
        while left and (time.monotonic() - began < 60 * minutes or left == fresh):
            now, left = left[:TOGETHER], left[TOGETHER:]
            models = {"int8": network.model(int8)}
            models |= {str(n): network.model(network.without(kinds[kind])) for n, kind in enumerate(now)}
            everywhere = network.without(list(range(len(int8))))
            models |= {"float": network.model(everywhere)} if len(left) + len(now) == len(fresh) else {}
            results = device.measure(models, seconds=SECONDS, shapes=shapes)
            if (plain := results.get("float")) is not None:  # how the device compares with the prediction
                level = 1e3 * plain.latency.median_ms / latency.total_us(latency.sizes, everywhere)
            for n, kind in enumerate(now):
                blocks = kinds[kind]
                one, other = results["int8"].latency, results[str(n)].latency
                ratio = _ratio(network, blocks, one, other, level)
                gain_us = 1e3 * (other.median_ms - one.median_ms)
                found = found.with_ratio(kind, KernelRatio(ratio, len(blocks), gain_us, model))
                step.advance()
            found.keep()
    ratios = {b: found.ratios[kind].ratio for kind, blocks in kinds.items() if kind in found.ratios for b in blocks}
    slower = sum(ratio > 1 for ratio in ratios.values())
    known = f"{len(ratios)} of {plural(sum(map(len, kinds.values())), 'kernel')}"
    note = f"--tune-placement: the time in INT8 of {known} is measured on the device; {slower} are slower in INT8"
    more = f"; {plural(len(left), 'kind')} of kernels are not measured yet: compile again for them" if left else ""
    return Placement(ratios, (note + more,))


def _ratio(network: _Network, blocks: list[int], int8: Measurement, without: Measurement, level: float) -> float:
    """The time of blocks in INT8 as a share of that in float, from the engine with all in INT8 and one without them.

    What the blocks' neighbours then pay for reformats is taken off as the latency model says. The prediction counts as
    much as the measurement is uncertain. ``level`` is the device's time over the predicted one, of the network in
    float.
    """
    latency, sizes = network.latency, network.latency.sizes
    formats = network.without(blocks)
    float_us = sum(latency.block_us(b, network.floating, sizes) for b in blocks)
    int8_us = sum(latency.block_us(b, INT8, sizes) for b in blocks)
    predicted_gain_us = latency.total_us(sizes, formats) - latency.total_us(sizes, network.int8)
    reformats_us = predicted_gain_us - (float_us - int8_us)
    gain_us = 1e3 * (without.median_ms - int8.median_ms) / level
    measured_us = float_us - (gain_us - reformats_us)
    noise_us = 1e3 * math.hypot(_sigma_ms(int8), _sigma_ms(without)) / level
    weight = (PRIOR_ERROR * int8_us) ** 2
    weight /= weight + noise_us**2
    return max(LEAST_RATIO, (weight * measured_us + (1 - weight) * int8_us) / float_us)


def _sigma_ms(measured: Measurement) -> float:
    """Standard deviation of a median from its 95% interval."""
    return (measured.ci_high_ms - measured.ci_low_ms) / (2 * sigmas(0.95))
