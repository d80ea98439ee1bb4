"""ReduceMeans that are statistics of a LayerNormalization that an exporter wrote as single operators.

    m = ReduceMean(x)       c = Sub(x, m)       v = ReduceMean(c²)      y = c / Sqrt(v + e)

After pruning, such a mean is over the remaining positions, as in LayerNormalization. The mean of squares alone, as in
RMSNorm, is a plain mean: a position that is zero adds nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.dims import NodeView
from edgeprune.graph import ONNX_DOMAINS

_VIEWS = frozenset({"Cast", "Expand", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_DEPTH = 3


def reduced_axes(n: NodeView) -> list[int]:
    """The reduced axes, from the attribute or the second operand."""
    rank = n.rank(0)
    given = n.attr("axes")
    if given is None and n.has(1):
        given = n.ints(1)
    if not given:
        return [] if n.attr("noop_with_empty_axes", 0) else list(range(rank))
    return [n.axis(int(k), rank) for k in given]


def is_moment(n: NodeView, over: list[int]) -> bool:
    """Whether a ReduceMean is the mean or the variance of a normalization over these axes.

    A variance that is multiplied by a constant is not: Bessel's correction depends on the number of positions.
    """
    node, source, result = n.node, n.node.inputs[0], n.node.outputs[0]
    if source is None:
        return False
    base = _squared(source)
    if base is not None:
        return _centred(base, over, n.opset) and not any(_rescales(use) for use in _readers(result))
    return any(
        _mean_of(variance, over, n.opset) and not any(_rescales(use) for use in _readers(variance.outputs[0]))
        for values in (source, *_differences(source, node))
        for square in _uses(values)
        if _squared(square.outputs[0]) is values
        for variance in _uses(square.outputs[0])
    )


def _centred(value: ir.Value, over: list[int], opset: int) -> bool:
    """Whether a value is the difference from its mean over these axes, or that difference is also computed."""
    node = value.producer()
    if node is not None and node.op_type == "Sub" and (source := node.inputs[0]) is not None:
        return any(_mean_of(mean, over, opset) and value in _differences(source, mean) for mean in _uses(source))
    return any(_mean_of(mean, over, opset) and any(_differences(value, mean)) for mean in _uses(value))


def _mean_of(node: ir.Node, over: list[int], opset: int) -> bool:
    return node.op_type == "ReduceMean" and sorted(reduced_axes(NodeView(node, opset))) == sorted(over)


def _differences(value: ir.Value, mean: ir.Node) -> list[ir.Value]:
    """All values ``value - mean``."""
    return [use.outputs[0] for use in _readers(mean.outputs[0]) if use.op_type == "Sub" and use.inputs[0] is value]


def _squared(value: ir.Value) -> ir.Value | None:
    """The value that this value is the square of; None if it is not a square."""
    node = value.producer()
    if node is None or node.domain not in ONNX_DOMAINS:
        return None
    first, second = (*node.inputs, None, None)[:2]
    if node.op_type == "Mul" and first is second:
        return first
    exponent = second.const_value if node.op_type == "Pow" and second is not None else None
    return first if exponent is not None and bool(np.all(exponent.numpy() == 2)) else None


def _rescales(node: ir.Node) -> bool:
    """Whether a node multiplies by a constant above one: a number of positions."""
    if node.op_type != "Mul":
        return False
    constants = (v.const_value for v in node.inputs if v is not None and v.const_value is not None)
    return any(bool(np.all(c.numpy() > 1)) for c in constants)


def _uses(value: ir.Value) -> Iterator[ir.Node]:
    return (use.node for use in value.uses() if use.node.domain in ONNX_DOMAINS)


def _readers(value: ir.Value, depth: int = 0) -> Iterator[ir.Node]:
    """Nodes that read a value, directly or through a change of its layout or type."""
    for node in _uses(value):
        if node.op_type in _VIEWS and depth < _DEPTH:
            yield from _readers(node.outputs[0], depth + 1)
        else:
            yield node
