"""Latency of a network on a GPU that is not at hand, for any widths and any precision of each launch.

The launches are those of the dense network (`edgeprune.costmodel.fusion`); at other widths each one is described again
from the shapes that its tensors would have, so that a time is what `edgeprune.costmodel.prediction` would say of the
pruned network. A launch that is put on integers is priced on integers, also where 16 bits would be faster: the lowered
graph leaves no choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.costmodel import BYTES, Cluster, Kernel, Sparsity, kernel_at, latencies_us, traffic_us
from edgeprune.dependency import AxisLengths, Dim, Widths
from edgeprune.devices import Device, Precision
from edgeprune.latency.block_latency import Edge, Format, sum_us
from edgeprune.latency.formats import INT8

SPARSE = "+2:4"
"""What a format with 2:4 weights ends in, as ``fp16+2:4``."""

_PRECISIONS: dict[Format, Precision] = {"fp32": "fp32", "fp16": "fp16", "int8": "int8"}
_TOGETHER = 4096
"""At most so many widths of a launch are priced in one go."""


def dense_format(fmt: Format) -> Format:
    """The format without 2:4."""
    return fmt.removesuffix(SPARSE)


def is_sparse(fmt: Format) -> bool:
    """Whether weights are 2:4 in this format."""
    return fmt.endswith(SPARSE)


def is_int8(fmt: Format) -> bool:
    """Whether the launch computes in INT8, sparse or dense."""
    return dense_format(fmt) == INT8


@dataclass(frozen=True, eq=False)
class AnalyticModel:
    """Times of a network's launches, by the cost model of one device.

    Attributes:
        launches: clusters of every launch, in launch order; a launch is a block.
        shapes: of all tensors, at any widths.
        available: per launch, the formats that it may take, the float one first.
        block_groups: per launch, the groups whose widths its time depends on.
        edges: between launches that read the same computed tensor: two formats of it are a conversion.
        levels: per group, widths that are likely to be asked for, which are priced together.
        device: rates of the device.
        error: typical relative error of its predictions, as a fraction.
        correction: factor on everything.
    """

    launches: tuple[tuple[Cluster, ...], ...]
    shapes: PrunedShapes
    available: tuple[tuple[Format, ...], ...]
    block_groups: tuple[frozenset[int], ...]
    edges: tuple[Edge, ...]
    shared: tuple[str, ...]
    levels: tuple[NDArray[np.int64], ...]
    device: Device
    error: float
    correction: float = 1.0
    _known: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)
    _priced: dict[tuple[object, ...], float] = field(default_factory=dict, repr=False)

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.shapes.lengths.sizes

    @property
    def call_us(self) -> float:
        """Microseconds of an inference besides its launches."""
        return self.correction * self.device.call_us

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the launch can run in."""
        return self.available[block]

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted time of one launch, microseconds."""
        key = (block, fmt, *(int(widths[g]) for g in sorted(self.block_groups[block])))
        if key not in self._known:
            self._price(block, widths)
        return self.correction * self._known[key]

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Cost of converting a tensor that one launch reads in integers and another in float, microseconds."""
        if is_int8(writer) == is_int8(reader):
            return 0.0
        elements = math.prod(self.shapes.at(widths)[self.shared[edge.tensor]])
        traffic = traffic_us([np.asarray(float(elements * BYTES[p])) for p in ("int8", "fp16")], self.device)
        return self.correction * (self.device.launch_us + float(traffic))

    def total_us(self, widths: Widths, formats: Sequence[Format]) -> float:
        """Predicted time of the network, microseconds."""
        return sum_us(self, widths, formats)

    def corrected(self, factor: float) -> AnalyticModel:
        """The same model with every time multiplied by ``factor``: how a measurement is fed back."""
        return replace(self, correction=self.correction * factor)

    def kernel(self, block: int, widths: Widths) -> Kernel:
        """The launch at these widths."""
        return kernel_at(self.launches[block], self.shapes.at(widths))

    def ideal_us(self, block: int, widths: Widths) -> float:
        """Arithmetic of a launch at the device's peak, and its traffic at DRAM's: what grows smoothly with widths."""
        k, device = self.kernel(block, widths), self.device
        peak = device.matrix_fma[device.supported("fp16")] * device.sms * device.clock_mhz
        moved = BYTES["fp16"] * (k.read_positions * k.cin + k.write_positions * k.cout) * k.repeats
        return k.macs / peak + moved / device.dram_bytes_per_us

    def _price(self, block: int, widths: Widths) -> None:
        """Price a launch at these widths, and at all that differ from them in one group: the search asks for those."""
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
            works = {key: (fmt, *_work(k)) for key, k in kernels.items()}
            fresh = {work: kernels[key] for key, work in works.items() if work not in self._priced}
            if fresh:
                precisions = [_PRECISIONS[dense_format(fmt)]] * len(fresh)
                sparsity: Sparsity = "2:4" if is_sparse(fmt) else "dense"
                times = latencies_us(list(fresh.values()), precisions, self.device, sparsity, mixed=False)
                self._priced.update(zip(fresh, times.tolist(), strict=True))
            self._known.update({(block, fmt, *key): self._priced[work] for key, work in works.items()})


class PrunedShapes:
    """Shapes of a model's tensors as functions of group widths.

    Args:
        dense: value name -> shape in the dense model.
        lengths: what cuts which axis.
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
    """Shapes at certain widths; ``asked`` collects the names that were looked up."""

    def __init__(self, shapes: PrunedShapes, widths: Widths):
        self._shapes, self._widths = shapes, widths
        self.asked: set[str] = set()

    def __getitem__(self, name: str) -> tuple[int, ...]:
        """Shape of the value."""
        self.asked.add(name)
        return self._shapes.shape(name, self._widths)

    def __iter__(self) -> Iterator[str]:
        """Names of all values."""
        return iter(self._shapes.dense)

    def __len__(self) -> int:
        """Number of values."""
        return len(self._shapes.dense)


def _work(k: Kernel) -> tuple[object, ...]:
    """All that a launch's time depends on, without names."""
    return (
        k.kind, k.epilogue, k.weighted, k.groups, k.rows, k.cin, k.cout, k.taps,
        k.read_positions, k.write_positions, k.side_elements, k.keys, k.repeats,
    )  # fmt: skip
