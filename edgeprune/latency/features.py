"""Features from which the latency of a block is predicted, computed from group widths alone.

The features of a block on a CPU with vector registers of ``lanes`` channels, all counted per inference:

    1               dispatch
    aligned MACs    multiply-accumulates with output and input channels rounded up to whole registers
    MACs            the same with only the output channels rounded up
    elements in, elements out, weight elements: memory traffic

A block's latency is a non-negative combination of these (``edgeprune.latency.block_latency`` fits it to measurements).
So it is a staircase in every width, and it never rises if an aligned width shrinks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.costmodel import WEIGHTED_OPS, Block
from edgeprune.dependency import AxisLengths, Dim, Widths
from edgeprune.graph import is_op

FEATURES = ("dispatch", "aligned_macs", "macs", "elements_in", "elements_out", "weight_elements")


@dataclass(frozen=True)
class Contraction:
    """A convolution or MatMul of the block: ``free`` x ``out`` x ``inner`` x ``kernel`` multiply-accumulates."""

    free: tuple[Dim, ...]
    out: Dim
    inner: Dim
    kernel: int


@dataclass(frozen=True)
class Geometry:
    """Everything from which a block's features are computed."""

    reads: tuple[tuple[Dim, ...], ...]
    writes: tuple[tuple[Dim, ...], ...]
    weights: tuple[tuple[Dim, ...], ...]
    contractions: tuple[Contraction, ...]
    groups: frozenset[int]

    def features(self, widths: Widths, sizes: Widths, lanes: int) -> NDArray[np.float64]:
        """Shape (len(FEATURES),); zeros if nothing is left to compute."""

        def elements(tensors: Sequence[tuple[Dim, ...]]) -> float:
            return math.fsum(math.prod(d.at(widths, sizes) for d in t) for t in tensors)

        if not elements(self.writes):
            return np.zeros(len(FEATURES))
        aligned = macs = 0.0
        for c in self.contractions:
            out, inner = c.out.at(widths, sizes), c.inner.at(widths, sizes)
            if not inner:  # the branch was dropped
                continue
            free = math.prod(d.at(widths, sizes) for d in c.free) * c.kernel * rounded_up(out, lanes)
            aligned += free * (rounded_up(inner, lanes) if inner > 1 else 1)
            macs += free * inner
        return np.array([1.0, aligned, macs, elements(self.reads), elements(self.writes), elements(self.weights)])


def rounded_up(n: float, step: int) -> float:
    """The next multiple of a step."""
    return math.ceil(round(n, 6) / step) * step


def geometries(model: ir.Model, blocks: Sequence[Block], lengths: AxisLengths) -> tuple[Geometry, ...]:
    """Geometry of every block; symbolic dimensions count as 1."""
    nodes = {str(n.name): n for n in model.graph}
    return tuple(_geometry([nodes[name] for name in b.nodes], lengths) for b in blocks)


def boundary(nodes: Sequence[ir.Node]) -> tuple[list[ir.Value], list[ir.Value]]:
    """Values that a block reads from outside, constants among them, and values that it writes."""
    inside = set(nodes)
    made = [o for n in nodes for o in n.outputs]
    read = dict.fromkeys(v for n in nodes for v in n.inputs if v is not None and v.producer() not in inside)
    leaving = [o for o in made if o.is_graph_output() or any(c not in inside for c in o.consumers())]
    return list(read), leaving or made


def _geometry(nodes: list[ir.Node], lengths: AxisLengths) -> Geometry:
    read, written = boundary(nodes)
    touched = [*read, *(o for n in nodes for o in n.outputs)]
    return Geometry(
        tuple(_dims(v, lengths) for v in read if v.const_value is None),
        tuple(_dims(v, lengths) for v in written),
        tuple(_dims(v, lengths) for v in read if v.const_value is not None),
        tuple(c for n in nodes if (c := _contraction(n, lengths)) is not None),
        frozenset(g for v in touched for d in _dims(v, lengths) for s in d.segments or () for g in s.groups),
    )


def _dims(value: ir.Value, lengths: AxisLengths) -> tuple[Dim, ...]:
    shape = value.shape or ()
    return tuple(lengths.dim(str(value.name), i, d if isinstance(d, int) else 1) for i, d in enumerate(shape))


def _contraction(node: ir.Node, lengths: AxisLengths) -> Contraction | None:
    if not is_op(node, *WEIGHTED_OPS):
        return None
    data, weight, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if data is None or weight is None or not out.shape or not weight.shape or not data.shape:
        return None
    x, w, y = _dims(data, lengths), _dims(weight, lengths), _dims(out, lengths)
    if node.op_type == "Conv":
        return Contraction((y[0], *y[2:]), y[1], w[1], math.prod(d.size for d in w[2:]))
    if node.op_type == "ConvTranspose":
        return Contraction((x[0], *x[2:]), x[1], w[1], math.prod(d.size for d in w[2:]))
    inner = x[0] if node.op_type == "Gemm" and bool(node.attributes.get_int("transA", 0)) else x[-1]
    return Contraction(y[:-1], y[-1], inner, 1) if y else None


def describe(nodes: Sequence[ir.Node], geometry: Geometry, widths: Widths, sizes: Widths) -> str:
    """A text that is equal for two blocks with the same work: operators, attributes and sizes, but no names."""
    ops = ";".join(
        f"{n.op_type}({','.join(sorted(f'{a.name}={a.value}' for a in n.attributes.values() if _is_plain(a)))})"
        for n in nodes
    )
    sides = (geometry.reads, geometry.writes, geometry.weights)
    shapes = "|".join(",".join("x".join(f"{d.at(widths, sizes):.0f}" for d in t) for t in side) for side in sides)
    return f"{ops}|{shapes}"


def _is_plain(attribute: ir.Attr) -> bool:
    return attribute.type in {
        ir.AttributeType.INT,
        ir.AttributeType.INTS,
        ir.AttributeType.FLOAT,
        ir.AttributeType.FLOATS,
        ir.AttributeType.STRING,
    }
