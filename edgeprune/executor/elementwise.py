"""Elementwise operators: arithmetic, activations, comparisons and casts."""

from __future__ import annotations

import math
from functools import reduce

import onnx_ir as ir
import torch
from torch.nn import functional

from edgeprune.errors import ModelError
from edgeprune.executor.registry import TYPES, Call, Kernel, Tensor, op

_UNARY = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}


@op(*_UNARY)
def unary(call: Call) -> Kernel:
    """Functions of one tensor that PyTorch has as they are."""
    kernel: Kernel = _UNARY[call.node.op_type]
    return kernel


@op(*_BINARY)
def binary(call: Call) -> Kernel:
    """Functions of two tensors that PyTorch has as they are."""
    kernel: Kernel = _BINARY[call.node.op_type]
    return kernel


@op("Identity", "Dropout")
def identity(call: Call) -> Kernel:
    """The input itself; a Dropout at inference, with a mask that keeps everything."""
    if call.has(2) and (not call.constant[2] or bool(call.inputs[2])):
        raise ModelError(f"{call.node.op_type} {call.node.name!r} is in training mode")
    if len(call.node.outputs) > 1:
        return lambda x, *_: (x, torch.ones_like(x, dtype=torch.bool))
    return lambda x, *_: x


@op("Div")
def div(call: Call) -> Kernel:
    """Integers are divided towards zero."""
    x = call.inputs[0]
    assert x is not None
    if x.is_floating_point():
        kernel: Kernel = torch.div
        return kernel
    return lambda a, b: torch.div(a, b, rounding_mode="trunc")


@op("Pow")
def power(call: Call) -> Kernel:
    """The result has the type of the base; a constant exponent of 2 or 0.5 is a product or a root."""
    exponent = call.inputs[1]
    assert exponent is not None
    if call.constant[1] and exponent.numel() == 1 and not exponent.dim():
        number = float(exponent)
        if number == 2:
            return lambda x, _: x * x
        if number == 0.5:
            return lambda x, _: torch.sqrt(x) if x.is_floating_point() else torch.pow(x, 0.5).to(x.dtype)
    return lambda x, y: torch.pow(x, y).to(x.dtype)


@op("Mod")
def mod(call: Call) -> Kernel:
    """The sign of the divisor, or with ``fmod`` of the dividend."""
    kernel: Kernel = torch.fmod if call.integer("fmod", 0) else torch.remainder
    return kernel


@op("Min", "Max")
def extreme(call: Call) -> Kernel:
    """The smallest or the largest of any number of tensors."""
    pick = torch.minimum if call.node.op_type == "Min" else torch.maximum
    return lambda *xs: reduce(pick, xs)


@op("Sum", "Mean")
def total(call: Call) -> Kernel:
    """The sum or the mean of any number of tensors."""
    if call.node.op_type == "Sum":
        return lambda *xs: reduce(torch.add, xs)
    return lambda *xs: reduce(torch.add, xs) / len(xs)


@op("Where")
def where(call: Call) -> Kernel:
    """A choice between two tensors."""
    kernel: Kernel = torch.where
    return kernel


@op("Clip", host=())
def clip(call: Call) -> Kernel:
    """Limits are inputs; in old opsets, attributes. Where they cross, the upper one holds, as in onnxruntime."""
    if "min" in call.attributes or "max" in call.attributes:
        low, high = call.real("min", -math.inf), call.real("max", math.inf)
        return lambda x: torch.clamp(x, low, high)
    fixed = []
    for index in (1, 2):
        value = call.inputs[index] if call.has(index) else None
        fixed.append(None if value is None else value.item() if call.constant[index] else value)
    low_value, high_value = fixed
    if low_value is None and high_value is None:
        return lambda x, *_: x
    if any(isinstance(value, torch.Tensor) for value in fixed):
        return lambda x, low=None, high=None: torch.clamp(x, low, high)
    if low_value == 0 and high_value == 6 and call.inputs[0] is not None and call.inputs[0].is_floating_point():
        return lambda x, *_: functional.relu6(x)
    return lambda x, *_: torch.clamp(x, low_value, high_value)


@op("LeakyRelu", "Elu", "Celu", "ThresholdedRelu")
def one_slope(call: Call) -> Kernel:
    """Activations with one parameter."""
    name = call.node.op_type
    alpha = call.real("alpha", 0.01 if name == "LeakyRelu" else 1.0)
    if name == "LeakyRelu":
        return lambda x: functional.leaky_relu(x, alpha)
    if name == "Elu":
        return lambda x: functional.elu(x, alpha)
    if name == "Celu":
        return lambda x: functional.celu(x, alpha)
    return lambda x: functional.threshold(x, alpha, 0.0)


@op("Selu")
def selu(call: Call) -> Kernel:
    """Klambauer et al. 2017, with the constants of the node."""
    alpha, gamma = call.real("alpha", 1.67326319217681884765625), call.real("gamma", 1.05070102214813232421875)
    return lambda x: gamma * functional.elu(x, alpha)


@op("PRelu")
def prelu(call: Call) -> Kernel:
    """The slope is broadcast from the last axis."""
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@op("HardSigmoid")
def hard_sigmoid(call: Call) -> Kernel:
    """``clip(alpha * x + beta, 0, 1)``."""
    alpha, beta = call.real("alpha", 0.2), call.real("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        kernel: Kernel = functional.hardsigmoid
        return kernel
    return lambda x: torch.clamp(alpha * x + beta, 0.0, 1.0)


@op("Gelu")
def gelu(call: Call) -> Kernel:
    """Hendrycks & Gimpel 2016, exact or by tanh."""
    approximate = call.text("approximate", "none")
    return lambda x: functional.gelu(x, approximate=approximate)


@op("Swish")
def swish(call: Call) -> Kernel:
    """``x * sigmoid(alpha * x)``."""
    alpha = call.real("alpha", 1.0)
    return functional.silu if alpha == 1.0 else lambda x: x * torch.sigmoid(alpha * x)


@op("Shrink")
def shrink(call: Call) -> Kernel:
    """Values near 0 become 0, others move towards 0 by the bias."""
    bias, near = call.real("bias", 0.0), call.real("lambd", 0.5)

    def kernel(x: Tensor) -> Tensor:
        moved = torch.where(x < -near, x + bias, torch.zeros_like(x))
        return torch.where(x > near, x - bias, moved).to(x.dtype)

    return kernel


@op("IsInf")
def is_inf(call: Call) -> Kernel:
    """Infinite values of the signs that count."""
    below, above = call.integer("detect_negative", 1), call.integer("detect_positive", 1)
    return lambda x: (torch.isinf(x) & (x < 0) & bool(below)) | (torch.isinf(x) & (x > 0) & bool(above))


@op("Cast")
def cast(call: Call) -> Kernel:
    """Floats are cut towards zero when they become integers."""
    return _to(TYPES[ir.DataType(call.integer("to", 1))])


@op("CastLike")
def cast_like(call: Call) -> Kernel:
    """A Cast to the type of another tensor."""
    return lambda x, other: x.to(other.dtype)


def _to(dtype: Tensor) -> Kernel:
    return lambda x: x.to(dtype)
