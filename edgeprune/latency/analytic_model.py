"""Latency of a network on a GPU that is not attached, for any widths and any precision of each kernel.

A block is a kernel of the dense network (`edgeprune.costmodel.fusion`). At other widths its sizes follow from the
shapes that its tensors would have, so the latency is the one that `edgeprune.costmodel.prediction` gives for the pruned
network. A kernel that a plan sets to INT8 has the INT8 latency, also if 16 bits would be faster: the lowered graph
states the precision. A kernel that has to stay in FP32 has the FP32 latency where others have that of FP16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel import BYTES, Cluster, Kernel, Sparsity, kernel_at, latencies_us, reformat_us
from edgeprune.dependency import AxisLengths, Dim, Widths
from edgeprune.devices import Device, Precision
from edgeprune.latency.block_latency import Edge, Format, rescaled, sum_us
from edgeprune.latency.formats import INT8
from edgeprune.latency.rank_formats import whole_format

SPARSE = "+2:4"
"""Suffix of a format with 2:4 weights, as in ``fp16+2:4``."""

_PRECISIONS: dict[Format, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}
_TOGETHER = 4096
"""Most widths of a kernel that are priced in one call."""


def dense_format(fmt: Format) -> Format:
    """The format without 2:4 or low rank."""
    return whole_format(fmt).removesuffix(SPARSE)


def is_sparse(fmt: Format) -> bool:
    """Whether weights are 2:4 sparse in this format."""
    return fmt.endswith(SPARSE)


def is_int8(fmt: Format) -> bool:
    """Whether the kernel computes in INT8, sparse or dense."""
    return dense_format(fmt) == INT8


@dataclass(frozen=True)
class Dropped:
    """The blocks of a residual branch that is dropped.

    Attributes:
        gone: nothing is left of them.
        scaled: only their sum is left, with a factor for each channel: a depthwise convolution.
    """

    gone: frozenset[int]
    scaled: frozenset[int]


@dataclass(frozen=True, eq=False)
class AnalyticModel:
    """Latencies of a network's kernels, by the cost model of one device. Every kernel is a block.

    Attributes:
        clusters: per block, the clusters of its kernel.
        shapes: shapes of all tensors, at any widths.
        available: per block, the formats that it can run in, the float one first.
        block_groups: per block, the groups whose widths its latency depends on.
        edges: between blocks that read the same computed tensor: with two formats it has to be reformatted.
        shared: names of these tensors.
        levels: per group, the widths that the search uses, which are priced together.
        device: rates of the device.
        error: typical relative error of its predictions, as a fraction.
        correction: factor of all latencies.
        wide: blocks that compute in FP32 where their format is FP16.
        dropped: what becomes of blocks if a group has no unit left.
    """

    clusters: tuple[tuple[Cluster, ...], ...]
    shapes: PrunedShapes
    available: tuple[tuple[Format, ...], ...]
    block_groups: tuple[frozenset[int], ...]
    edges: tuple[Edge, ...]
    shared: tuple[str, ...]
    levels: tuple[NDArray[np.int64], ...]
    device: Device
    error: float
    correction: float = 1.0
    wide: frozenset[int] = frozenset()
    dropped: Mapping[int, Dropped] = field(default_factory=dict)
    _known: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)
    _priced: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.shapes.lengths.sizes

    @property
    def call_us(self) -> float:
        """Microseconds of an inference besides its kernels."""
        return self.correction * self.device.call_us

    total_us = sum_us
    corrected = rescaled

    def in_float32(self, blocks: Iterable[int]) -> AnalyticModel:
        """The same model with these blocks in FP32 where their format is FP16; unchanged if it has no FP32 rates."""
        wide = frozenset(blocks) if "fp32" in self.device.matrix_fma else frozenset[int]()
        return replace(self, wide=wide, _known={}) if wide != self.wide else self

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the block can run in."""
        return self.available[block]

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted latency of one block, microseconds."""
        key = (block, fmt, *(int(widths[g]) for g in sorted(self.block_groups[block])))
        if key not in self._known:
            self._price(block, widths)
        return self.correction * self._known[key]

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Latency of the reformat of a tensor that one block reads in INT8 and the other in float, microseconds."""
        if is_int8(writer) == is_int8(reader):
            return 0.0
        elements = math.prod(self.shapes.at(widths)[self.shared[edge.tensor]])
        return self.correction * reformat_us(elements, self.device)

    def precision(self, block: int, fmt: Format) -> Precision:
        """The precision in which the block computes if it has this format."""
        found = _PRECISIONS[dense_format(fmt)]
        return "fp32" if found == "fp16" and block in self.wide else found

    def kernel(self, block: int, widths: Widths) -> Kernel:
        """The block's kernel at these widths."""
        found = kernel_at(self.clusters[block], self.shapes.at(widths))
        if not any(block in dropped.scaled and not widths[g] for g, dropped in self.dropped.items()):
            return found
        positions = found.write_positions
        depthwise = replace(found, kind="depthwise", groups=1, cin=found.cout, taps=1, read_positions=positions)
        return replace(depthwise, rows=round(positions), side_elements=0.0, epilogue="simple", quantized=False)

    def is_gone(self, block: int, widths: Widths) -> bool:
        """Whether the block is in a branch that is dropped at these widths, and nothing takes its place."""
        return any(block in dropped.gone and not widths[g] for g, dropped in self.dropped.items())

    def ideal_us(self, block: int, widths: Widths) -> float:
        """Latency at the device's peak compute and DRAM bandwidth, which grows smoothly with the widths."""
        k, device = self.kernel(block, widths), self.device
        peak = device.matrix_fma[device.supported("fp16")] * device.sms * device.clock_mhz
        moved = BYTES["fp16"] * (k.read_positions * k.cin + k.write_positions * k.cout) * k.repeats
        return k.macs / peak + moved / device.dram_bytes_per_us

    def _price(self, block: int, widths: Widths) -> None:
        """Price a block at these widths, and at all widths that differ in one group: the search needs them next."""
        groups = sorted(self.block_groups[block])
        wanted = {tuple(int(widths[g]) for g in groups): widths}
        for i, g in enumerate(groups):
            for level in self.levels[g]:
                here = [int(widths[j]) for j in groups]
                here[i] = int(level)
                if len(wanted) < _TOGETHER and (block, self.available[block][0], *here) not in self._known:
                    near = np.array(widths)
                    near[g] = level
                    wanted.setdefault(tuple(here), near)
        kernels = {key: self.kernel(block, w) for key, w in wanted.items()}
        for fmt in self.available[block]:
            precision = self.precision(block, fmt)
            works = {key: (precision, is_sparse(fmt), *work_of(k)) for key, k in kernels.items()}
            fresh = {work: kernels[key] for key, work in works.items() if work not in self._priced}
            if fresh:
                precisions = [precision] * len(fresh)
                sparsity: Sparsity = "2:4" if is_sparse(fmt) else "dense"
                times = latencies_us(list(fresh.values()), precisions, self.device, sparsity, mixed=False)
                self._priced.update(zip(fresh, times.tolist(), strict=True))
            for key, work in works.items():
                place = (block, fmt, *key)
                self._known[place] = 0.0 if self.is_gone(block, wanted[key]) else self._priced[work]


class PrunedShapes:
    """Shapes of a model's tensors as functions of group widths.

    Args:
        dense: value name -> shape in the dense model.
        lengths: the groups that cut each axis.
    """

    def __init__(self, dense: Mapping[str, tuple[int, ...]], lengths: AxisLengths):
        self.dense, self.lengths = dense, lengths
        cut = {value for value, _ in lengths.segments}
        self._dims: dict[str, tuple[Dim, ...]] = {
            name: tuple(lengths.dim(name, axis, size) for axis, size in enumerate(shape))
            for name, shape in dense.items()
            if name in cut
        }

    def groups(self, name: str) -> frozenset[int]:
        """Groups that cut an axis of the value."""
        return frozenset(g for d in self._dims.get(name, ()) for s in d.segments or () for g in s.groups)

    def at(self, widths: Widths) -> ShapesAt:
        """The shapes at these widths."""
        return ShapesAt(self, widths)

    def shape(self, name: str, widths: Widths) -> tuple[int, ...]:
        """Shape of one value; no axis becomes empty."""
        dims = self._dims.get(name)
        if dims is None:
            return self.dense[name]
        sizes = self.lengths.sizes
        return tuple(d.size if d.segments is None else max(1, round(d.at(widths, sizes))) for d in dims)


class ShapesAt(Mapping[str, "tuple[int, ...]"]):
    """Shapes at given widths; ``used`` collects the names that were looked up."""

    def __init__(self, shapes: PrunedShapes, widths: Widths):
        self._shapes, self._widths = shapes, widths
        self.used: set[str] = set()

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """Shape of the value."""
        self.used.add(name)
        return self._shapes.shape(name, self._widths)

    def __iter__(self) -> Iterator[str]:
        """Names of all values."""
        return iter(self._shapes.dense)

    def __len__(self) -> int:
        """Number of values."""
        return len(self._shapes.dense)


def work_of(k: Kernel) -> tuple[object, ...]:
    """Everything that a kernel's latency depends on, without names."""
    return (
        k.kind, k.epilogue, k.weighted, k.groups, k.rows, k.cin, k.cout, k.taps,
        k.read_positions, k.write_positions, k.side_elements, k.keys, k.repeats, k.image,
    )  # fmt: skip
