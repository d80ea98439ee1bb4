"""Affine ops: pointwise nodes that only shift, scale and clip, ``y = min(max(slope * x + shift, low), high)``.

In INT8 an affine op costs almost nothing: its output has the quantized values of its input, clipped where the op clips,
and read with another scale and zero point. So a hard swish, also when written as ``x * clip(x + 3, 0, 6) / 6``, becomes
one Clip and one INT8 Mul.

Affine ops also show which part of a value's range its readers use: INT8 does not have to represent what a Relu or a
Clip cuts off.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph import constant, input_at, is_op

INFINITE = (-math.inf, math.inf)
_SHIFTS = ("Add", "Div", "Mul", "Sub")


@dataclass(frozen=True)
class AffineOp:
    """The function that a node computes of the value ``source``; ``slope`` is positive."""

    source: ir.Value
    slope: float = 1.0
    shift: float = 0.0
    low: float = -math.inf
    high: float = math.inf

    def __call__(self, x: float) -> float:
        """The output for an input."""
        return min(max(self.slope * x + self.shift, self.low), self.high)

    def after(self, other: AffineOp) -> AffineOp:
        """The composition: this affine op of the output of another one, as one affine op of the other's source."""
        ends = (min(max(self.slope * end + self.shift, self.low), self.high) for end in (other.low, other.high))
        return AffineOp(other.source, self.slope * other.slope, self.slope * other.shift + self.shift, *ends)

    def before(self, y: float) -> float:
        """The input for an output that is not clipped."""
        return (y - self.shift) / self.slope


def affine_op_of(node: ir.Node) -> AffineOp | None:
    """The node as an affine op, or None if it is none."""
    source = input_at(node, 0)
    if is_op(node, *_SHIFTS):
        return _shift(node)
    if source is None or source.const_value is not None:
        return None
    if is_op(node, "Relu"):
        return AffineOp(source, low=0.0)
    if is_op(node, "HardSigmoid"):
        alpha, beta = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return AffineOp(source, alpha, beta, 0.0, 1.0) if alpha > 0 else None
    if is_op(node, "Clip"):
        limits = [_limit(node, index, default) for index, default in ((1, -math.inf), (2, math.inf))]
        low, high = limits
        return None if low is None or high is None or low > high else AffineOp(source, low=low, high=high)
    return None


def seen_range(value: ir.Value) -> tuple[float, float]:
    """The interval of a value that its readers distinguish; (inf, -inf) if nothing reads it."""
    if value.is_graph_output():
        return INFINITE
    low, high = math.inf, -math.inf
    for node in set(value.consumers()):
        node_low, node_high = _seen_by(node, value)
        low, high = min(low, node_low), max(high, node_high)
    return low, high


def _seen_by(node: ir.Node, value: ir.Value) -> tuple[float, float]:
    affine_op = affine_op_of(node)
    if affine_op is not None:
        inner = seen_range(node.outputs[0])
        low, high = max(inner[0], affine_op.low), min(inner[1], affine_op.high)
        return affine_op.before(low), affine_op.before(high)
    if is_op(node, "HardSwish"):
        return -3.0, math.inf
    if is_op(node, "Mul"):  # the other factor may be an affine op of the value itself that is 0 up to some point
        others = [v for v in node.inputs if v is not None and v is not value]
        return (_zero_up_to(others[0], value) if len(others) == 1 else -math.inf), math.inf
    return INFINITE


def _zero_up_to(factor: ir.Value, value: ir.Value) -> float:
    """The largest ``value`` up to which a chain of affine ops gives 0 as ``factor``; -inf if there is none."""
    chain: list[AffineOp] = []
    while factor is not value:
        producer = factor.producer()
        affine_op = None if producer is None else affine_op_of(producer)
        if affine_op is None:
            return -math.inf
        chain.append(affine_op)
        factor = affine_op.source
    y, point = -math.inf, -math.inf
    for i, affine_op in enumerate(reversed(chain)):
        y = affine_op(y)
        if math.isfinite(affine_op.low):
            point = max(point, _before(chain[len(chain) - 1 - i :], affine_op.low))
    return point if y == 0 else -math.inf


def _before(chain: list[AffineOp], y: float) -> float:
    """The input of a chain of affine ops, last first, that gives this output."""
    for affine_op in chain:
        y = affine_op.before(y)
    return y


def _shift(node: ir.Node) -> AffineOp | None:
    """Addition of a scalar, multiplication by a positive scalar, and their inverses."""
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None or node.outputs[0].dtype != ir.DataType.FLOAT:
        return None
    if left.const_value is not None and node.op_type in ("Add", "Mul"):
        left, right = right, left
    number = constant(right)
    rank, grown = left.shape, node.outputs[0].shape
    if left.const_value is not None or number is None or number.size != 1 or rank is None or grown is None:
        return None
    scalar = float(number.reshape(()))
    if len(rank) != len(grown) or not math.isfinite(scalar):
        return None
    if node.op_type in ("Add", "Sub"):
        return AffineOp(left, shift=scalar if node.op_type == "Add" else -scalar)
    if scalar <= 0:
        return None
    return AffineOp(left, scalar if node.op_type == "Mul" else 1 / scalar)


def _limit(node: ir.Node, index: int, default: float) -> float | None:
    """A bound of a Clip; None if the graph computes it."""
    value = input_at(node, index)
    if value is None:
        return default
    number = constant(value)
    return None if number is None or number.size != 1 else float(number.reshape(()))
