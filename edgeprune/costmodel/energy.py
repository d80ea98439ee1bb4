"""The energy of an inference on a GPU, predicted from its multiply-accumulates and the bytes that its kernels move."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.costmodel.cost import BYTES
from edgeprune.costmodel.kernel import CONTRACTIONS, Kernel
from edgeprune.devices import EnergyRates, Precision

_PJ = 1e-9
"""Millijoules in a picojoule."""


def energy_mj(kernels: Sequence[Kernel], precisions: Sequence[Precision], rates: EnergyRates) -> float:
    """Millijoules above idling of one run of these kernels.

    Args:
        kernels: at their widths.
        precisions: of each kernel.
        rates: of the device.
    """
    total = 0.0
    for kernel, precision in zip(kernels, precisions, strict=True):
        computed = precision if kernel.kind in (*CONTRACTIONS, "depthwise") else "fp16"
        computed = computed if computed in rates.pj_per_mac else "fp16"
        total += kernel.macs * rates.pj_per_mac[computed]
        total += _elements(kernel) * BYTES[precision] * rates.pj_per_byte
    return total * _PJ


def _elements(kernel: Kernel) -> float:
    """Elements of activations and weights that a kernel reads and writes."""
    moved = kernel.read_positions * kernel.cin + (kernel.write_positions + kernel.side_elements) * kernel.cout
    if kernel.weighted and kernel.kind in ("conv", "matmul"):
        moved += kernel.cin * kernel.cout / kernel.groups * kernel.taps
    return moved * kernel.repeats
