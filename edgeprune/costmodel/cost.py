"""Latency of a kernel in microseconds: an analytic model of one GPU kernel.

The latency is the launch overhead plus the larger of the compute and the memory time, with a smooth maximum where the
two are close. Compute is counted in tiles of the output matrix: the tiles of a wave run in parallel on the streaming
multiprocessors, and a started wave or tile costs as much as a full one. Channels are padded to the sizes that the
tensor cores take. Memory time separates the L2 cache from DRAM by how much of a tensor the cache can hold. All sizes
may be arrays: one call gives the latency of every width of a layer.

Every term is a minimum or a sum of functions that do not decrease with a width. So a narrower layer never has a larger
predicted latency than a wider one.

Sources: tiles, padding and waves after NVIDIA, "Matrix Multiplication Background User's Guide" and "Convolutional
Layers User's Guide".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel.kernel import CONTRACTIONS, Epilogue, Kernel, Kind
from edgeprune.devices import Device, Precision

Sparsity = Literal["dense", "2:4"]

BYTES: dict[Precision, int] = {"fp32": 4, "fp16": 2, "int8": 1}
_SPLITS = (1, 2, 4, 8)
_GROUPS_IN_A_TILE = (1, 2, 4, 8, 16, 32)
_SHARPNESS = 3.4
"""Exponent of the norm that joins compute and memory time: they overlap, but not perfectly."""
_STREAMS_SHARPNESS = 5.0
"""The same for the times of the L2 cache and of DRAM: a copy keeps both busy at once."""
_NMS_KERNELS, _NMS_PASSES = 7, 2.25
"""Kernels of EfficientNMS (filter, segmented sort, suppression), and how often it passes over scores and boxes."""
_FUSED_HEADS = (16, 256, 8)
"""Sizes of the heads that TensorRT's fused attention takes: least, most, multiple (TensorRT documentation)."""
_SCALAR_RATE = 0.25
"""Fraction of the vector units' rate that pointwise, pooling and reduction code reaches."""
_SOFTMAX_RATE = 0.125
"""Exponentials per multiply-add of the vector units: special function units are an eighth as many."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Kernels of one kind as arrays that broadcast; the fields are those of `edgeprune.costmodel.Kernel`."""

    kind: Kind
    epilogue: Epilogue
    weighted: bool
    groups: Floats
    rows: Floats
    taps: Floats
    keys: Floats
    image: Floats
    repeats: Floats
    read_positions: Floats
    write_positions: Floats
    side_elements: Floats
    cin: Floats
    cout: Floats


@dataclass(frozen=True)
class KernelCost:
    """Parts of the latency of kernels, microseconds; ``tail_us``: further kernels for nodes that were not fused."""

    overhead_us: Floats
    compute_us: Floats
    memory_us: Floats
    tail_us: Floats

    @property
    def total_us(self) -> Floats:
        """Latency of the kernels."""
        joined = (self.compute_us**_SHARPNESS + self.memory_us**_SHARPNESS) ** (1 / _SHARPNESS)
        return np.asarray(self.overhead_us + joined + self.tail_us, dtype=np.float64)


def latencies_us(
    kernels: Sequence[Kernel],
    precisions: Sequence[Precision],
    device: Device,
    sparsity: Sparsity = "dense",
    *,
    mixed: bool = True,
) -> Floats:
    """Latencies of kernels at their own widths.

    Args:
        kernels: n kernels.
        precisions: precision of each kernel; a device that lacks it takes the next wider one.
        device: rates and fitted parameters.
        sparsity: sparsity of all their weights. ``2:4`` uses the device's measured speed-up, else the published one.
        mixed: whether the builder may run an INT8 kernel in 16 bits if that is faster. False if the graph states every
            precision.

    Returns:
        Microseconds, shape (n,).
    """
    result = np.zeros(len(kernels), dtype=np.float64)
    alike: dict[tuple[Kind, Epilogue, bool, Precision], list[int]] = {}
    for i, (k, wanted) in enumerate(zip(kernels, precisions, strict=True)):
        precision = wanted if runs_int8(k) else _float(wanted)
        alike.setdefault((k.kind, k.epilogue, k.weighted, precision), []).append(i)
    for (_, _, _, precision), indices in alike.items():
        sizes = stack([kernels[i] for i in indices])
        result[indices] = sizes_latency_us(sizes, precision, sparsity, device, mixed=mixed)
    return result


def stack(kernels: Sequence[Kernel]) -> Sizes:
    """Kernels of the same kind, epilogue and operand roles as arrays of shape (n,)."""
    numbers = [f.name for f in fields(Sizes) if f.name not in ("kind", "epilogue", "weighted")]
    arrays = {name: np.array([getattr(k, name) for k in kernels], dtype=np.float64) for name in numbers}
    first = kernels[0]
    return Sizes(first.kind, first.epilogue, first.weighted, **arrays)


def runs_int8(kernel: Kernel) -> bool:
    """Whether an INT8 engine runs the kernel in INT8: convolutions, depthwise or not, and MatMuls with a constant."""
    return kernel.kind in ("conv", "depthwise", "matmul") and kernel.weighted


def with_batch(kernel: Kernel, batch: int) -> Kernel:
    """The same kernel for ``batch`` times as many samples."""
    if kernel.kind == "attention" or (kernel.kind == "matmul" and not kernel.weighted):
        return replace(kernel, groups=kernel.groups * batch, cin=kernel.cin * batch, cout=kernel.cout * batch)
    return replace(
        kernel,
        rows=kernel.rows * batch,
        read_positions=kernel.read_positions * batch,
        write_positions=kernel.write_positions * batch,
        side_elements=kernel.side_elements * batch,
    )


def _float(precision: Precision) -> Precision:
    return "fp16" if precision == "int8" else precision


def sizes_latency_us(
    sizes: Sizes, precision: Precision, sparsity: Sparsity, device: Device, *, mixed: bool = True
) -> Floats:
    """Latency of stacked kernels with all their repetitions, microseconds; arguments as in :func:`latencies_us`."""
    precision = device.supported(precision)
    time = kernel_cost(sizes, precision, sparsity, device).total_us
    if precision == "int8" and mixed:
        time = np.minimum(time, kernel_cost(sizes, "fp16", sparsity, device).total_us)
    if sizes.kind == "concat":
        time = (time - device.launch_us) * device.concat_copies + device.launch_us * device.concat_launches
    return np.asarray(time * sizes.repeats, dtype=np.float64)


def kernel_cost(s: Sizes, precision: Precision, sparsity: Sparsity, device: Device) -> KernelCost:
    """The parts of the latency of kernels in exactly this precision, one repetition of each."""
    contraction = s.kind in CONTRACTIONS
    element = BYTES[precision] if contraction or s.kind == "depthwise" else max(2, BYTES[precision])
    step = device.padding[precision] if contraction else 1
    read = s.read_positions * _up(s.cin, step) * element
    written = s.write_positions * _up(s.cout, step) * element
    side = s.side_elements * s.cout * element
    tail = np.zeros_like(read)
    if s.kind == "matmul" and precision == "int8":
        # Between the MatMuls of a transformer everything is float (normalization, GELU, softmax, residuals): a separate
        # kernel quantizes the operand, and the result is written in 16 bits.
        written = written * 2
        tail = tail + device.launch_us + traffic_us([read * 2, read], device)
    if s.kind == "conv" and device.image_copies:
        # The image arrives in float32 and planes; the first convolution reads it padded, channels last.
        copy = device.launch_us + traffic_us([s.read_positions * s.cin * BYTES["fp32"], read], device)
        tail = tail + s.image * device.image_copies * copy
    memory = traffic_us([read, written, side], device, once=_weights(s, step) * element)
    if s.kind == "attention":
        compute = _attention_us(s, precision, device)
        scores = s.groups * s.rows * s.keys * max(2, BYTES[precision])
        # Without the fused kernel the scores are written, normalized and read again, by three kernels.
        apart = 2 * device.launch_us + traffic_us([scores] * 4, device)
        tail = tail + np.where(fused_attention(s, precision, device), 0.0, apart)
    elif contraction:
        compute = _product_us(s, precision, step, device)
        if sparsity == "2:4":
            gain = device.sparse_gain(precision, np.minimum(s.cin, s.cout) / s.groups)
            compute, memory = compute / gain, memory / gain
    elif s.kind == "depthwise":
        packed = BYTES["fp32"] // BYTES[precision]
        compute = s.rows * s.cout * s.taps / (device.vector_fma_per_us * device.depthwise_efficiency * packed)
    elif s.kind == "nms":
        compute = np.full_like(read, device.nms_cycles / device.clock_mhz)
        tail = tail + (_NMS_KERNELS - 1) * device.launch_us
        memory = traffic_us([_NMS_PASSES * s.read_positions * s.cin * BYTES["fp32"]], device)
    else:
        compute = s.write_positions * s.cout * s.taps / (device.vector_fma_per_us * _SCALAR_RATE)
    if s.epilogue == "complex":
        separate = device.launch_us + traffic_us([written, written, side], device)
        tail = tail + (1 - device.fused_tails[precision]) * separate
    return KernelCost(np.full_like(memory, device.launch_us), np.asarray(compute, dtype=np.float64), memory, tail)


def _product_us(s: Sizes, precision: Precision, step: int, device: Device) -> Floats:
    """A convolution or MatMul; one tile computes several narrow groups as a block-diagonal product where this pays."""
    share = device.matmul_efficiency if s.kind == "matmul" else 1.0
    each = s.cout / s.groups
    most = np.clip(np.floor(min(columns for _, columns in device.tiles) / each), 1, s.groups)
    best = np.full(np.broadcast_shapes(s.rows.shape, each.shape), np.inf)
    for wanted in _GROUPS_IN_A_TILE if s.kind == "conv" and bool(np.any(most > 1)) else (1,):
        together = np.minimum(most, wanted)
        k = _up(s.cin / s.groups * together, step) * s.taps / _transformed(s, device)
        groups = np.ceil(s.groups / together)
        best = np.minimum(best, _tiled_us(s.rows, each * together, k, groups, precision, device, share))
    return best


def _transformed(s: Sizes, device: Device) -> Floats:
    """Factor of multiplications that Winograd's transform saves for a 3x3 convolution (Lavin & Gray 2016)."""
    fits = (s.taps == 9) & (s.groups == 1) & (np.round(s.read_positions) == np.round(s.write_positions))
    return np.where(fits, device.winograd_gain, 1.0)


def _weights(s: Sizes, step: int) -> Floats:
    """Weight elements that a kernel reads, padded like its operands."""
    if s.kind == "depthwise":
        return s.cout * s.taps
    if s.kind in CONTRACTIONS and s.kind != "attention":
        return np.asarray(_up(s.cin, step) * _up(s.cout, step) / s.groups * s.taps, dtype=np.float64)
    return np.zeros_like(s.cout)


def _attention_us(s: Sizes, precision: Precision, device: Device) -> Floats:
    """Both MatMuls of Softmax(Q Kᵀ) V, at least in 16 bits, and the exponentials between them."""
    precision = _float(precision)
    keys = s.keys + np.zeros_like(s.cout)
    scores = _tiled_us(s.rows, keys, s.cin / s.groups, s.groups, precision, device)
    values = _tiled_us(s.rows, s.cout / s.groups, keys, s.groups, precision, device)
    softmax = s.groups * s.rows * s.keys / (device.vector_fma_per_us * _SOFTMAX_RATE)
    return np.asarray(scores + values + softmax, dtype=np.float64)


def fused_attention(s: Sizes, precision: Precision, device: Device) -> NDArray[np.bool_]:
    """Whether one kernel computes an attention: in 16 bits, for heads of the same size for queries, keys and values."""
    least, most, multiple = _FUSED_HEADS
    head, value = s.cin / s.groups, s.cout / s.groups
    fits = (head == value) & (head >= least) & (head <= most) & (head % multiple == 0)
    return np.asarray(fits & device.fused_attention & (precision != "fp32"))


def _tiled_us(
    rows: Floats, n: Floats, k: Floats, groups: Floats, precision: Precision, device: Device, share: float = 1.0
) -> Floats:
    """Latency with the fastest tile and split of the contracted axis; ``share`` of the usual rate is reached."""
    rate = device.matrix_fma_per_sm_us(precision) * share
    best = np.full(np.broadcast_shapes(rows.shape, n.shape, k.shape), np.inf)
    for tile_m, tile_n in device.tiles:
        # The smaller a tile, the less often each operand that reaches an SM is reused.
        rate_tile = rate / (1 + device.tile_latency * (1 / tile_m + 1 / tile_n))
        tiles = np.ceil(rows / tile_m) * np.ceil(np.ceil(n) / tile_n) * groups
        for split in _SPLITS:
            waves = np.ceil(tiles * split / device.sms)
            time = waves * (tile_m * tile_n * np.ceil(k / split) / rate_tile + device.wave_us)
            if split > 1:
                # Partial sums go through the cache in float32 and are added in a second, short pass.
                time = time + split * rows * n * groups * 8 / device.l2_bytes_per_us + device.wave_us
            best = np.minimum(best, time)
    return best


def traffic_us(tensors: list[Floats], device: Device, once: Floats | float = 0.0) -> Floats:
    """Every byte passes the L2 cache; the fraction s / (s + cache) of a tensor of s bytes also passes DRAM.

    ``once``: bytes of weights, which always come from DRAM. The slower of both streams decides, with a smooth maximum.
    """
    cached = sum(tensors, start=np.float64(0)) + once
    spilled = sum((t * t / (t + device.l2_bytes) for t in tensors), start=np.float64(0)) + once
    times = (cached / device.l2_bytes_per_us, spilled / device.dram_bytes_per_us)
    return np.asarray(sum(t**_STREAMS_SHARPNESS for t in times) ** (1 / _STREAMS_SHARPNESS), dtype=np.float64)


def _up(channels: Floats, step: int) -> Floats:
    return np.asarray(np.ceil(channels / step) * step, dtype=np.float64)
