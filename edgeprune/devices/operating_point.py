"""The rates of a device in one power mode, as the cost model uses them, in units of microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Device:
    """Rates of one device in one power mode, and the fitted parameters of its family.

    ``matrix_fma``: multiply-adds of dense convolutions and MatMuls per clock and streaming multiprocessor, by
    precision; a missing precision is not supported. ``vector_fma``: the same for ordinary FP32 arithmetic.
    ``padding``: channels are padded to multiples of this, by precision. ``tiles``: output tiles (rows, columns) of the
    kernels for convolutions and MatMuls. ``fused_tails``: fraction of complex pointwise operators that are fused into
    the kernel before them. ``concat_copies``: fraction of the operands of a Concat that are copied instead of written
    in place. The fitted parameters: ``efficiency`` (fraction of the peak with the largest tile, by precision),
    ``tile_latency`` (rows or columns of a tile at which fetching its operands costs as much as its arithmetic),
    ``wave_cycles`` (fill and drain of a wave), ``launch_cycles`` and ``launch_fixed_us`` (overhead of a kernel launch),
    ``call_us`` (overhead of an inference), ``dram_efficiency``, ``l2_bytes_per_cycle`` (per streaming multiprocessor),
    ``depthwise_efficiency`` and ``winograd_gain`` (1 on tensor cores, whose kernels do not use the transform).
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

    def sparse_gain(self, precision: Precision) -> float:
        """Measured ratio of dense to 2:4 time of a convolution or MatMul; 1 if nothing was measured."""
        return self.sparse_gains.get(precision, 1.0)
