"""The last nodes that two models have in common: what they read can be compared in place of the outputs.

A runtime computes a sigmoid to about 1e-7, so a probability of 1e-7 has no correct digit, although the logit has six.
Where both models end in the same elementwise nodes with the same constants, they compute the same if these nodes read
the same values.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs

_CONTINUOUS = frozenset(
    {"Abs", "Add", "Celu", "Clip", "Concat", "Div", "Elu", "Erf", "Exp", "Flatten", "Gelu", "HardSigmoid", "HardSwish"}
    | {"Identity", "LeakyRelu", "Log", "LogSoftmax", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal"}
    | {"Relu", "Reshape", "Selu", "Sigmoid", "Slice", "Softmax", "Softplus", "Softsign", "Sqrt", "Squeeze", "Sub"}
    | {"Sum", "Swish", "Tanh", "Transpose", "Unsqueeze"}
)
"""Activations, arithmetic and moves of elements. Convolutions and other sums over channels are compared, not passed."""

Pair = tuple[str, str]


def common_ends(first: ir.Model, second: ir.Model) -> list[Pair]:
    """Names of the values that the common last nodes of two models read: in the first model, and in the second.

    An output that no common node computes is a pair itself. A value that both models hold as a constant is no pair.
    """
    pairs: dict[Pair, None] = {}
    todo: list[tuple[ir.Value, ir.Value]] = list(zip(first.graph.outputs, second.graph.outputs, strict=True))
    seen: set[Pair] = set()
    while todo:
        a, b = todo.pop()
        pair = (a.name or "", b.name or "")
        if pair in seen:
            continue
        seen.add(pair)
        read = _read(a.producer(), b.producer()) if a.index() == b.index() else None
        if read is None:
            pairs[pair] = None
        else:
            todo += read
    return list(pairs)


def _read(first: ir.Node | None, second: ir.Node | None) -> list[tuple[ir.Value, ir.Value]] | None:
    """The values that two nodes read, if they are the same node with the same constants."""
    if (
        first is None
        or second is None
        or not (graphs.is_op(first, *_CONTINUOUS) and graphs.is_op(second, *_CONTINUOUS))
    ):
        return None
    if first.op_type != second.op_type or len(first.inputs) != len(second.inputs):
        return None
    if {k: a.value for k, a in first.attributes.items()} != {k: a.value for k, a in second.attributes.items()}:
        return None
    read: list[tuple[ir.Value, ir.Value]] = []
    for a, b in zip(first.inputs, second.inputs, strict=True):
        if a is None and b is None:
            continue
        if a is None or b is None:
            return None
        left, right = graphs.constant(a), graphs.constant(b)
        if left is None and right is None:
            read.append((a, b))
        elif left is None or right is None or left.dtype != right.dtype or not np.array_equal(left, right):
            return None
    return read
