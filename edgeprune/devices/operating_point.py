"""The rates of a device in one power mode, as the cost model uses them, in units of microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Device:
    """Rates of one device in one power mode, and the fitted parameters of its family.

    ``matrix_fma``: multiply-adds of dense convolutions and MatMuls per clock and streaming multiprocessor, by
    precision; a missing precision is not supported. ``vector_fma``: the same for ordinary FP32 arithmetic.
    ``padding``: channels are padded to multiples of this, by precision. ``tiles``: output tiles (rows, columns) of the
    kernels for convolutions and MatMuls. ``fused_tails``: fraction of complex pointwise operators that are fused into
    the kernel before them. ``concat_copies`` and ``concat_launches``: fraction of the operands of a Concat that are
    copied instead of written in place, by their bytes and by their kernels. The fitted parameters: ``efficiency``
    (fraction of the peak with the largest tile, by precision),
    ``tile_latency`` (rows or columns of a tile at which fetching its operands costs as much as its arithmetic),
    ``wave_cycles`` (fill and drain of a wave), ``launch_cycles`` and ``launch_fixed_us`` (overhead of a kernel launch),
    ``call_us`` (overhead of an inference), ``dram_efficiency``, ``l2_bytes_per_cycle`` (per streaming multiprocessor),
    ``depthwise_efficiency``, ``matmul_efficiency`` (of a MatMul, relative to a convolution), ``image_copies`` (passes
    that bring a float32 image into the layout of the first convolution), ``nms_cycles`` (the serial part of TensorRT's
    EfficientNMS) and ``winograd_gain`` (1 on tensor cores, whose kernels do not use the transform).
    ``fused_attention``: whether TensorRT has one kernel for Softmax(Q Kᵀ) V in 16 bits. ``sparse_gains``: measured
    ratios of dense to 2:4 time; ``published_sparse_gains``: the same from publications about similar devices, for
    products of at least ``sparse_channels`` channels.
    """

    name: str
    power_mode: str
    sms: int
    clock_mhz: float
    dram_gb_per_s: float
    l2_mb: float
    matrix_fma: Mapping[Precision, float]
    vector_fma: float
    padding: Mapping[Precision, int]
    tiles: tuple[tuple[int, int], ...]
    fused_tails: Mapping[Precision, float]
    concat_copies: float
    efficiency: Mapping[Precision, float]
    tile_latency: float
    wave_cycles: float
    launch_cycles: float
    launch_fixed_us: float
    call_us: float
    dram_efficiency: float
    l2_bytes_per_cycle: float
    depthwise_efficiency: float
    winograd_gain: float
    sparse_gains: Mapping[Precision, float]
    published_sparse_gains: Mapping[Precision, float] = field(default_factory=dict)
    sparse_channels: int = 256
    concat_launches: float = 1.0
    matmul_efficiency: float = 1.0
    image_copies: float = 0.0
    nms_cycles: float = 0.0
    fused_attention: bool = True

    @property
    def launch_us(self) -> float:
        """Launch overhead of a kernel."""
        return self.launch_fixed_us + self.launch_cycles / self.clock_mhz

    @property
    def wave_us(self) -> float:
        """Fill and drain of one wave of tiles."""
        return self.wave_cycles / self.clock_mhz

    @property
    def dram_bytes_per_us(self) -> float:
        """DRAM bandwidth."""
        return self.dram_gb_per_s * 1e3 * self.dram_efficiency

    @property
    def l2_bytes_per_us(self) -> float:
        """L2 cache bandwidth."""
        return self.l2_bytes_per_cycle * self.sms * self.clock_mhz

    @property
    def l2_bytes(self) -> float:
        """Size of the L2 cache."""
        return self.l2_mb * 2**20

    @property
    def vector_fma_per_us(self) -> float:
        """Multiply-adds of ordinary arithmetic on the whole device."""
        return self.vector_fma * self.sms * self.clock_mhz

    def matrix_fma_per_sm_us(self, precision: Precision) -> float:
        """Multiply-adds of dense convolutions and MatMuls on one streaming multiprocessor with the largest tile."""
        return self.matrix_fma[precision] * self.clock_mhz * self.efficiency[precision]

    def supported(self, precision: Precision) -> Precision:
        """The precision itself, or the next wider one that the device has."""
        order: tuple[Precision, ...] = ("int8", "fp16", "fp32")
        return next(p for p in order[order.index(precision) :] if p in self.matrix_fma)

    def sparse_gain(self, precision: Precision, channels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ratio of dense to 2:4 time of a convolution or MatMul; 1 where nothing was measured or published.

        Args:
            precision: of the operands.
            channels: the fewer of the input and output channels.
        """
        if precision in self.sparse_gains:
            return np.full(channels.shape, self.sparse_gains[precision])
        wide = channels >= self.sparse_channels
        return np.where(wide, self.published_sparse_gains.get(precision, 1.0), 1.0)
