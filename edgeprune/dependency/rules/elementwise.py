"""Elementwise operators: activations, arithmetic, comparisons, casts."""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.dims import LINEAR, PRODUCT, NodeView, Rel, Zeros, rule
from edgeprune.dependency.relations import positive_exponent

_ZERO_TO_ZERO = [
    *("Abs", "Asin", "Asinh", "Atan", "Atanh", "Bernoulli", "Cast", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu"),
    *(
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Relu",
        "Round",
        "Selu",
        "Sign",
        "Sin",
        "Sinh",
    ),
    *("Softsign", "Sqrt", "Swish", "Tan", "Tanh"),
]
_OTHER_UNARY = [
    *("Acos", "Acosh", "BitwiseNot", "Cos", "Cosh", "Exp", "Log", "Not"),
    *("Reciprocal", "Sigmoid", "Softplus"),
]
_ALL_ZERO = ["Add", "Sub", "Sum", "Mean", "Or", "Xor", "BitwiseOr", "BitwiseXor", "Greater", "Less"]
_ANY_ZERO = ["Mul", "And", "BitwiseAnd"]
_FIRST_ZERO = ["Div", "Mod", "PRelu", "BitShift"]
_NEVER_ZERO = ["Equal", "GreaterOrEqual", "LessOrEqual"]


@rule(*_ZERO_TO_ZERO)
def zero_to_zero(n: NodeView) -> Rel:
    """Functions with f(0) = 0."""
    return Rel("... -> ...", zeros=LINEAR)


@rule(*_OTHER_UNARY)
def unary(n: NodeView) -> Rel:
    """Functions with f(0) ≠ 0."""
    return Rel("... -> ...")


@rule("CastLike")
def cast_like(n: NodeView) -> Rel:
    """Only the type of the second operand matters."""
    return Rel("..., . -> ...", zeros=LINEAR)


@rule("Dropout")
def dropout(n: NodeView) -> Rel:
    """The identity at inference; ratio and mode are scalars."""
    return Rel("..., ., . -> ..., ...", zeros=LINEAR)


@rule("Clip")
def clip(n: NodeView) -> Rel:
    """Maps 0 to 0 if 0 is within the bounds."""
    low = n.attr("min", -np.inf) if n.opset < 11 else (n.const(1) if n.has(1) else -np.inf)
    high = n.attr("max", np.inf) if n.opset < 11 else (n.const(2) if n.has(2) else np.inf)
    keeps = low is not None and high is not None and np.all(np.asarray(low) <= 0) and np.all(np.asarray(high) >= 0)
    return Rel("..., ., . -> ...", zeros=LINEAR if keeps else None)


def _together(n: NodeView, zeros: Zeros | None) -> Rel:
    return Rel(", ".join(["..."] * n.inputs) + " -> ...", zeros=zeros)


@rule(*_ALL_ZERO)
def all_zero(n: NodeView) -> Rel:
    """Zero where all operands are zero."""
    return _together(n, tuple((k,) for k in range(n.inputs)))


@rule(*_ANY_ZERO)
def any_zero(n: NodeView) -> Rel:
    """Zero where either operand is zero."""
    return _together(n, PRODUCT)


@rule(*_FIRST_ZERO)
def first_zero(n: NodeView) -> Rel:
    """Zero where the first operand is zero."""
    return _together(n, LINEAR)


@rule(*_NEVER_ZERO)
def never_zero(n: NodeView) -> Rel:
    """Comparisons: zeros are not known."""
    return _together(n, None)


@rule("Max", "Min")
def extreme(n: NodeView) -> Rel:
    """Zero where all operands are zero; a constant on the other side of zero does not matter beside a zero."""
    beside = np.less_equal if n.op == "Max" else np.greater_equal
    constants = [n.const(k) for k in range(n.inputs)]
    needed = [k for k, c in enumerate(constants) if c is None or not bool(np.all(beside(c, 0)))]
    return _together(n, tuple((k,) for k in needed or range(n.inputs)))


@rule("Shrink")
def shrink(n: NodeView) -> Rel:
    """Maps a band around 0 to 0, if the band is not turned inside out."""
    return Rel("... -> ...", zeros=LINEAR if n.attr("lambd", 0.5) >= 0 else None)


@rule("HardSigmoid")
def hard_sigmoid(n: NodeView) -> Rel:
    """Maps 0 to its offset, or to 0 where that is not positive."""
    return Rel("... -> ...", zeros=LINEAR if n.attr("beta", 0.5) <= 0 else None)


@rule("ThresholdedRelu")
def thresholded_relu(n: NodeView) -> Rel:
    """Zero where the operand is zero, whatever the threshold."""
    return Rel("... -> ...", zeros=LINEAR)


@rule("Pow")
def power(n: NodeView) -> Rel:
    """Zero where the base is zero, for a positive exponent."""
    return _together(n, LINEAR if positive_exponent(n.node) else None)


@rule("Where")
def where(n: NodeView) -> Rel:
    """Zero where the second branch is zero, and the first branch or the condition."""
    return _together(n, ((0, 1), (2,)))
