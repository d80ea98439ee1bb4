"""The size of a network in place of its latency: multiply-accumulates and parameters at any widths.

A block is a layer with weights, or a product of two activations. It costs

    share * macs(w) / macs(dense)  +  (1 - share) * parameters(w) / parameters(dense)

in millionths, so the dense network costs 1e6. A search over it finds the widths of least loss for a size that no device
sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from edgeprune.dependency import Analysis, Widths, axis_lengths
from edgeprune.graph import count_macs, input_at, static_shape
from edgeprune.latency.analytic_model import PrunedShapes
from edgeprune.latency.block_latency import Edge, Format, sum_us
from edgeprune.latency.formats import FLOAT

DENSE = 1e6
"""The cost of the dense network."""


@dataclass(frozen=True)
class SizeLimit:
    """The largest size of a network, as shares of the dense network's.

    Attributes:
        macs: multiply-accumulates; None for any.
        parameters: weights; None for any.
        smallest: no group is cut below this share of its units.
    """

    macs: float | None = None
    parameters: float | None = None
    smallest: float = 0.125

    def holds(self, shares: Sequence[float]) -> bool:
        """Whether a network with these shares of multiply-accumulates and parameters is within the limits."""
        return shares[0] <= (self.macs or 1.0) and shares[1] <= (self.parameters or 1.0)


@dataclass(frozen=True, eq=False)
class SizeBlock:
    """A node that costs something.

    Attributes:
        weights: names of its weights that no earlier block has.
        factors: values and axes whose lengths its multiply-accumulates are proportional to.
        macs: in the dense network.
        groups: whose widths it depends on.
    """

    weights: tuple[str, ...]
    factors: tuple[tuple[str, tuple[int, ...]], ...]
    macs: int
    groups: frozenset[int]


@dataclass(frozen=True, eq=False)
class SizeModel:
    """Sizes as a `Latency`.

    Attributes:
        blocks: nodes that cost something.
        shapes: shapes of all values, at any widths.
        macs, parameters: of the dense network.
        share: weight of the multiply-accumulates; the rest is that of the parameters.
        correction: factor of all costs.
    """

    blocks: tuple[SizeBlock, ...]
    shapes: PrunedShapes
    macs: int
    parameters: int
    share: float = 0.5
    correction: float = 1.0
    edges: tuple[Edge, ...] = ()
    call_us: float = 0.0
    error: float = 0.0

    total_us = sum_us

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.shapes.lengths.sizes

    @property
    def block_groups(self) -> tuple[frozenset[int], ...]:
        """Per block, the groups whose widths it depends on."""
        return tuple(block.groups for block in self.blocks)

    def formats(self, block: int) -> tuple[Format, ...]:
        """Every block is in float."""
        return (FLOAT,)

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """The cost of a block, in millionths of the dense network's."""
        one = self.blocks[block]
        macs = self._macs(one, widths) / max(1, self.macs)
        weights = self._parameters(one, widths) / max(1, self.parameters)
        return self.correction * DENSE * (self.share * macs + (1 - self.share) * weights)

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """There are no conversions."""
        return 0.0

    def corrected(self, factor: float) -> SizeModel:
        """The same model with every cost multiplied by ``factor``."""
        return replace(self, correction=self.correction * factor)

    def shares(self, widths: Widths) -> tuple[float, float]:
        """Multiply-accumulates and parameters at these widths, as shares of the dense network's."""
        macs = sum(self._macs(b, widths) for b in self.blocks) / max(1, self.macs)
        return macs, sum(self._parameters(b, widths) for b in self.blocks) / max(1, self.parameters)

    def _macs(self, block: SizeBlock, widths: Widths) -> float:
        macs = float(block.macs)
        for name, axes in block.factors:
            dense, now = self.shapes.dense[name], self.shapes.shape(name, widths)
            macs *= math.prod(now[a] for a in axes) / max(1, math.prod(dense[a] for a in axes))
        return macs

    def _parameters(self, block: SizeBlock, widths: Widths) -> float:
        return float(sum(math.prod(self.shapes.shape(name, widths)) for name in block.weights))


def size_model(model: ir.Model, analysis: Analysis) -> SizeModel:
    """The sizes of a canonical model whose shapes are all fixed.

    Args:
        model: the dense model.
        analysis: its groups.
    """
    graph = model.graph
    dense = {str(v.name): shape for v in _values(model) if (shape := static_shape(v)) is not None}
    shapes, macs = PrunedShapes(dense, axis_lengths(analysis.groups)), count_macs(model)
    blocks, seen = [], set[str]()
    for node in graph:
        read = [v for v in node.inputs if v is not None and v.is_initializer() and str(v.name) in dense]
        weights = tuple(dict.fromkeys(str(v.name) for v in read if str(v.name) not in seen))
        seen |= set(weights)
        count = macs.get(str(node.name), 0)
        if weights or count:
            factors = tuple((name, axes) for name, axes in _factors(node) if name in dense) if count else ()
            names = {*weights, *(name for name, _ in factors)}
            blocks.append(SizeBlock(weights, factors, count, frozenset(g for n in names for g in shapes.groups(n))))
    parameters = sum(math.prod(dense[name]) for block in blocks for name in block.weights)
    return SizeModel(tuple(blocks), shapes, sum(macs.values()), parameters)


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    yield from model.graph.initializers.values()
    for node in model.graph:
        yield from node.outputs


def _factors(node: ir.Node) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The lengths that the multiply-accumulates of a node are proportional to, as in `edgeprune.graph.count_macs`."""
    first, second = (input_at(node, i) for i in (0, 1))
    every = first if node.op_type == "ConvTranspose" else node.outputs[0]
    if every is not None:
        yield str(every.name), tuple(range(len(every.shape or ())))
    if node.op_type in ("Conv", "ConvTranspose") and second is not None:
        yield str(second.name), tuple(range(1, len(second.shape or ())))
    elif node.op_type == "MatMul" and first is not None:
        yield str(first.name), (len(first.shape or ()) - 1,)
    elif node.op_type == "Gemm" and first is not None:
        yield str(first.name), (0 if node.attributes.get_int("transA", 0) else 1,)
    elif node.op_type in ("LSTM", "GRU", "RNN") and second is not None:
        yield str(second.name), (2,)
