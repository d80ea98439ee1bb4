"""What two layers of low rank take in place of one: two kernels on a GPU, two contractions on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel import Kernel, latencies_us
from edgeprune.dependency import Widths
from edgeprune.latency.analytic_model import AnalyticModel
from edgeprune.latency.block_latency import Format, LatencyModel
from edgeprune.latency.features import rounded_up

_LEAST = 0.02
"""A layer whose factor its neighbour takes is not priced below this share of its own latency."""


@dataclass(frozen=True, eq=False)
class KernelPairs:
    """Two kernels in place of one, by the analytic model of a GPU.

    Attributes:
        model: of the network.
        before: block -> the block of the linear layer before it, which takes the first factor.
    """

    model: AnalyticModel
    before: Mapping[int, int] = field(default_factory=dict)

    def ratio(self, block: int, fmt: Format, rank: int, widths: Widths) -> float:
        """Latency of the two kernels over that of the one."""
        kernel = self.model.kernel(block, widths)
        if rank >= min(kernel.cin * kernel.taps, kernel.cout):
            return 1.0
        first, second = split_kernel(kernel, rank)
        whole_us = self._us(kernel, block, fmt)
        if block not in self.before:
            return (self._us(first, block, fmt) + self._us(second, block, fmt)) / whole_us
        beside = self.before[block]
        other = fmt if fmt in self.model.formats(beside) else self.model.formats(beside)[0]
        old = self.model.kernel(beside, widths)
        saved = self._us(old, beside, other) - self._us(replace(old, cout=min(rank, old.cout)), beside, other)
        return max((self._us(second, block, fmt) - saved) / whole_us, _LEAST)

    def _us(self, kernel: Kernel, block: int, fmt: Format) -> float:
        precision = self.model.precision(block, fmt)
        return float(latencies_us([kernel], [precision], self.model.device, "dense", mixed=False)[0])


def split_kernel(kernel: Kernel, rank: int) -> tuple[Kernel, Kernel]:
    """The two kernels of a linear layer of this rank; the second one has everything that is fused behind the layer."""
    positions = kernel.write_positions
    first = replace(kernel, cout=rank, epilogue="none", side_elements=0.0)
    return first, replace(kernel, cin=rank, taps=1, read_positions=positions, image=False)


@dataclass(frozen=True, eq=False)
class ContractionPairs:
    """Two contractions in place of one, by the fitted coefficients of a block on a CPU.

    Attributes:
        model: of the network; every block that is asked for has one contraction.
        before: block -> the block of the linear layer before it, which takes the first factor.
    """

    model: LatencyModel
    before: Mapping[int, int] = field(default_factory=dict)

    def ratio(self, block: int, fmt: Format, rank: int, widths: Widths) -> float:
        """Latency of the two contractions over that of the one."""
        whole = self._whole(block, widths)
        theta = self.model.theta[fmt][block]
        inner, outer = self._sides(block, widths)
        if rank >= min(inner, outer) or not theta @ whole:
            return 1.0
        free = whole[2] / (inner * rounded_up(outer, self.model.lanes))
        lanes = self.model.lanes
        first = _features(free, inner, rank, lanes, whole[3])
        second = _features(free, rank, outer, lanes, free * rank)
        second[4] = whole[4]
        if block not in self.before:
            return float(theta @ (first + second) / (theta @ whole))
        beside = self.before[block]
        other = fmt if np.isfinite(self.model.theta[fmt][beside][0]) else self.model.formats(beside)[0]
        old = self._whole(beside, widths)
        share = min(rank / self._sides(beside, widths)[1], 1.0)
        saved = self.model.theta[other][beside] @ (old * (1 - share) * np.array([0, 1, 1, 0, 1, 1]))
        return max(float((theta @ second - saved) / (theta @ whole)), _LEAST)

    def _whole(self, block: int, widths: Widths) -> NDArray[np.float64]:
        return self.model.geometries[block].features(widths, self.model.sizes, self.model.lanes)

    def _sides(self, block: int, widths: Widths) -> tuple[float, float]:
        (one,) = self.model.geometries[block].contractions
        return one.inner.at(widths, self.model.sizes) * one.kernel, one.out.at(widths, self.model.sizes)


def _features(free: float, inner: float, outer: float, lanes: int, elements_in: float) -> NDArray[np.float64]:
    """As `edgeprune.latency.features`: of a contraction of ``free`` rows from ``inner`` to ``outer`` channels."""
    rows = free * rounded_up(outer, lanes)
    return np.array([1.0, rows * rounded_up(inner, lanes), rows * inner, elements_in, free * outer, inner * outer])
