"""Which operators can compute on channels-first tensors, and by which rule.

An operator without a rule, or a node for which its rule finds no answer, keeps its tensors as they are.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import ONNX_DOMAINS, has_subgraph
from edgeprune.passes.layout import shape_rules
from edgeprune.passes.layout.order import Order
from edgeprune.passes.layout.rules import (
    Rule,
    Turned,
    along,
    arg,
    concat,
    dense,
    elementwise,
    gather,
    quantization,
    reduction,
)

_ELEMENTWISE = (
    {"Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd"}
    | {"BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh"}
    | {"Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid"}
    | {"HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean"}
    | {"Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round"}
    | {"Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum"}
    | {"Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"}
)
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")

_RULES: dict[str, Rule] = {
    **dict.fromkeys(sorted(_ELEMENTWISE), elementwise),
    **{f"Reduce{what}": reduction for what in _REDUCTIONS},
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LpNormalization", "TopK"), along(-1)),
    "ArgMax": arg,
    "ArgMin": arg,
    "Concat": concat,
    "DequantizeLinear": quantization,
    "CumSum": shape_rules.cumulative,
    "Expand": shape_rules.repeated,
    "Flatten": shape_rules.flattened,
    "Gather": gather,
    "MatMul": dense,
    "Pad": shape_rules.padded,
    "QuantizeLinear": quantization,
    "Reshape": shape_rules.reshaped,
    "Resize": shape_rules.resized,
    "Shape": shape_rules.measured,
    "Slice": shape_rules.sliced,
    "Split": along(0),
    "Squeeze": shape_rules.squeezed,
    "Tile": shape_rules.repeated,
    "Unsqueeze": shape_rules.unsqueezed,
}


_SINCE = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "Split", "Squeeze", "Unsqueeze", "ReduceSum"), 13),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), 13),
    **dict.fromkeys(("Pad", "Resize", "TopK"), 11),
    "Slice": 10,
}
"""Opset of the form that the rule of an operator is for; the other rules are for all opsets from 7 on."""


def turned(node: ir.Node, order: Order, opset: int) -> Turned | None:
    """How a node computes on channels-first tensors; None if it does not, or it is not certain."""
    rule = _RULES.get(node.op_type)
    if (
        rule is None
        or opset < _SINCE.get(node.op_type, 0)
        or node.domain not in ONNX_DOMAINS
        or has_subgraph(node)
        or not node.inputs
    ):
        return None
    return rule(node, order) if node.inputs[0] is not None else None
