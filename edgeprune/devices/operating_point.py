"""The device as the cost model sees it: a profile in one power mode, in units of microseconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class Device:
    """Rates of one device in one power mode, and the fitted parameters of its family.

    ``matrix_fma``: multiply-adds per clock and streaming multiprocessor of dense products, by precision; a precision
    that is missing is not supported. ``vector_fma``: the same of ordinary FP32 arithmetic. ``padding``: channels are
    padded to multiples of this, by precision. ``tiles``: output tiles (rows, columns) that product kernels come in.
    ``fused_tails``: fraction of complex pointwise tails that run inside the product. ``concat_copies``: fraction of
    concatenated operands that are copied instead of written in place. The fitted parameters: ``efficiency`` (fraction
    of the peak that the largest tile reaches, by precision), ``tile_latency`` (rows or columns of a tile at which
    fetching its operands costs as much as its arithmetic), ``wave_cycles`` (fill and drain of a wave),
    ``launch_cycles`` and ``launch_fixed_us`` (of a launch), ``call_us`` (of an inference), ``dram_efficiency``,
    ``l2_bytes_per_cycle`` (per streaming multiprocessor) ``depthwise_efficiency`` and
    ``winograd_gain`` (1 where products run on tensor cores, whose kernels do not use the transform).
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
        """Fixed time of a launch."""
        return self.launch_fixed_us + self.launch_cycles / self.clock_mhz

    @property
    def wave_us(self) -> float:
        """Fill and drain of one wave of tiles."""
        return self.wave_cycles / self.clock_mhz

    @property
    def dram_bytes_per_us(self) -> float:
        """What DRAM delivers."""
        return self.dram_gb_per_s * 1e3 * self.dram_efficiency

    @property
    def l2_bytes_per_us(self) -> float:
        """What the L2 cache delivers."""
        return self.l2_bytes_per_cycle * self.sms * self.clock_mhz

    @property
    def l2_bytes(self) -> float:
        """Size of the L2 cache."""
        return self.l2_mb * 2**20

    @property
    def vector_fma_per_us(self) -> float:
        """Multiply-adds of ordinary arithmetic, the whole device."""
        return self.vector_fma * self.sms * self.clock_mhz

    def matrix_fma_per_sm_us(self, precision: Precision) -> float:
        """Multiply-adds of dense products that one streaming multiprocessor sustains with the largest tile."""
        return self.matrix_fma[precision] * self.clock_mhz * self.efficiency[precision]

    def supported(self, precision: Precision) -> Precision:
        """The precision itself, or the next wider one the device has."""
        order: tuple[Precision, ...] = ("int8", "fp16", "fp32")
        return next(p for p in order[order.index(precision) :] if p in self.matrix_fma)

    def sparse_gain(self, precision: Precision) -> float:
        """Measured ratio of dense to 2:4 time of a product; 1 where nothing was measured."""
        return self.sparse_gains.get(precision, 1.0)
