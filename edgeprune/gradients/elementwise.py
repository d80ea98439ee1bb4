"""Gradients of elementwise operators and of their broadcasting."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.tape import Call, InputGradients, Tape, Unsupported, gradient


def _back(call: Call, index: int, dx: ir.Value) -> ir.Value:
    """A gradient of the output's shape, summed to an input's shape."""
    return call.tape.summed_to(dx, call.shape(call.y), call.shape(call.x(index)))


@gradient("Add", "Sum")
def _add(call: Call) -> InputGradients:
    return [_back(call, i, call.first_dy) if want else None for i, want in enumerate(call.wanted)]


@gradient("Sub")
def _sub(call: Call) -> InputGradients:
    left = _back(call, 0, call.first_dy) if call.wanted[0] else None
    return left, _back(call, 1, call.tape.op("Neg", call.first_dy)) if call.wanted[1] else None


@gradient("Mul")
def _mul(call: Call) -> InputGradients:
    dy, op = call.first_dy, call.tape.op
    if (gate := _gate(call)) is not None:  # SiLU as exporters write it; its slope is s + y - s y
        x, s = call.x(1 - gate), call.x(gate)
        slope = op("Mul", s, op("Add", op("Sub", x, call.y), call.tape.constant(1.0)))
        return [op("Mul", dy, slope) if i != gate else None for i in range(2)]
    return [_back(call, i, op("Mul", dy, call.x(1 - i))) if want else None for i, want in enumerate(call.wanted)]


def _gate(call: Call) -> int | None:
    """The input that is the sigmoid of the other; None if neither is."""
    for i in range(2):
        made = call.x(i).producer()
        if made is not None and made.op_type == "Sigmoid" and made.inputs[0] is call.x(1 - i) and all(call.wanted):
            return i
    return None


@gradient("Div")
def _div(call: Call) -> InputGradients:
    dy, op = call.first_dy, call.tape.op
    left = _back(call, 0, op("Div", dy, call.x(1))) if call.wanted[0] else None
    if not call.wanted[1]:
        return left, None
    return left, _back(call, 1, op("Neg", op("Div", op("Mul", dy, call.y), call.x(1))))


@gradient("Pow")
def _pow(call: Call) -> InputGradients:
    exponent = call.constant(1)
    if exponent is None or exponent.size != 1 or call.wanted[1]:
        raise Unsupported("Pow with an exponent that is not a constant number")
    power, op, tape = float(exponent.ravel()[0]), call.tape.op, call.tape
    slope = call.x(0) if power == 2 else op("Pow", call.x(0), tape.constant(power - 1))
    return [_back(call, 0, op("Mul", call.first_dy, tape.scaled(slope, power)))]


@gradient("Max", "Min")
def _extreme(call: Call) -> InputGradients:
    op = call.tape.op
    given: list[ir.Value | None] = []
    for i, want in enumerate(call.wanted):
        chosen = op("Cast", op("Equal", call.x(i), call.y), to=1)
        given.append(_back(call, i, op("Mul", call.first_dy, chosen)) if want else None)
    return given


@gradient("Where")
def _where(call: Call) -> InputGradients:
    zero, op, dy = call.tape.constant(0.0), call.tape.op, call.first_dy
    yes = _back(call, 1, op("Where", call.x(0), dy, zero)) if call.wanted[1] else None
    return None, yes, _back(call, 2, op("Where", call.x(0), zero, dy)) if call.wanted[2] else None


@gradient("Clip")
def _clip(call: Call) -> InputGradients:
    low, high = call.constant(1), call.constant(2)
    return [_between(call, -math.inf if low is None else float(low), math.inf if high is None else float(high))]


@gradient("Relu")
def _relu(call: Call) -> InputGradients:
    return [_between(call, 0.0, math.inf)]


@gradient("HardSigmoid")
def _hard_sigmoid(call: Call) -> InputGradients:
    alpha = call.node.attributes.get_float("alpha", 0.2)
    beta = call.node.attributes.get_float("beta", 0.5)
    if alpha <= 0:
        raise Unsupported("HardSigmoid that does not increase")
    return [call.tape.scaled(_between(call, -beta / alpha, (1 - beta) / alpha), alpha)]


def _between(call: Call, low: float, high: float) -> ir.Value:
    """The gradient where low < x < high, zero elsewhere."""
    op, tape, x = call.tape.op, call.tape, call.x(0)
    inside = [op("Greater", x, tape.constant(low))] if math.isfinite(low) else []
    inside += [op("Less", x, tape.constant(high))] if math.isfinite(high) else []
    if not inside:
        return call.first_dy
    mask = inside[0] if len(inside) == 1 else op("And", *inside)
    return op("Where", mask, call.first_dy, tape.constant(0.0))


@gradient("PRelu")
def _prelu(call: Call) -> InputGradients:
    op, tape, dy, x = call.tape.op, call.tape, call.first_dy, call.x(0)
    positive = op("Greater", x, tape.constant(0.0))
    left = op("Where", positive, dy, op("Mul", dy, call.x(1))) if call.wanted[0] else None
    if not call.wanted[1]:
        return left, None
    return left, _back(call, 1, op("Where", positive, tape.constant(0.0), op("Mul", dy, x)))


@gradient("Identity", "Dropout", "Cast")
def _same(call: Call) -> InputGradients:
    if call.node.op_type == "Cast" and call.x(0).dtype != call.y.dtype:
        raise Unsupported("Cast to another type")
    return [call.first_dy]


def _unary(op_type: str, slope: Callable[[Tape, Call, ir.Value, ir.Value], ir.Value]) -> None:
    """Register ``dx = dy * slope(x, y)``."""

    def rule(call: Call) -> InputGradients:
        return [call.tape.op("Mul", call.first_dy, slope(call.tape, call, call.x(0), call.y))]

    gradient(op_type)(rule)


def _one_minus(t: Tape, x: ir.Value) -> ir.Value:
    return t.op("Sub", t.constant(1.0), x)


def _leaky(t: Tape, call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    alpha = call.node.attributes.get_float("alpha", 0.01)
    return t.op("Where", t.op("Greater", x, t.constant(0.0)), t.constant(1.0), t.constant(alpha))


def _elu(t: Tape, call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    alpha = call.node.attributes.get_float("alpha", 1.0)
    below = t.op("Add", y, t.constant(alpha))
    return t.op("Where", t.op("Greater", x, t.constant(0.0)), t.constant(1.0), below)


def _hard_swish(t: Tape, call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    middle = t.op("Add", t.scaled(x, 1 / 3), t.constant(0.5))
    inside = t.op("Where", t.op("Less", x, t.constant(-3.0)), t.constant(0.0), middle)
    return t.op("Where", t.op("Greater", x, t.constant(3.0)), t.constant(1.0), inside)


def _gelu(t: Tape, call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    if call.node.attributes.get_string("approximate", "none") == "tanh":
        inner = t.scaled(t.op("Add", x, t.scaled(t.op("Mul", x, t.op("Mul", x, x)), 0.044715)), math.sqrt(2 / math.pi))
        tanh = t.op("Tanh", inner)
        rise = t.scaled(t.op("Add", t.constant(1.0), t.scaled(t.op("Mul", x, x), 3 * 0.044715)), math.sqrt(2 / math.pi))
        second = t.op("Mul", t.op("Mul", x, rise), _one_minus(t, t.op("Mul", tanh, tanh)))
        return t.scaled(t.op("Add", t.op("Add", t.constant(1.0), tanh), second), 0.5)
    normal = t.scaled(t.op("Add", t.constant(1.0), t.op("Erf", t.scaled(x, math.sqrt(0.5)))), 0.5)
    density = t.scaled(t.op("Exp", t.scaled(t.op("Mul", x, x), -0.5)), 1 / math.sqrt(2 * math.pi))
    return t.op("Add", normal, t.op("Mul", x, density))


def _erf(t: Tape, call: Call, x: ir.Value, y: ir.Value) -> ir.Value:
    return t.scaled(t.op("Exp", t.op("Neg", t.op("Mul", x, x))), 2 / math.sqrt(math.pi))


_unary("Sigmoid", lambda t, call, x, y: t.op("Mul", y, _one_minus(t, y)))
_unary("Tanh", lambda t, call, x, y: _one_minus(t, t.op("Mul", y, y)))
_unary("Exp", lambda t, call, x, y: y)
_unary("Log", lambda t, call, x, y: t.op("Reciprocal", x))
_unary("Sqrt", lambda t, call, x, y: t.op("Div", t.constant(0.5), y))
_unary("Reciprocal", lambda t, call, x, y: t.op("Neg", t.op("Mul", y, y)))
_unary("Neg", lambda t, call, x, y: t.constant(-1.0))
_unary("Abs", lambda t, call, x, y: t.op("Sign", x))
_unary("Sin", lambda t, call, x, y: t.op("Cos", x))
_unary("Cos", lambda t, call, x, y: t.op("Neg", t.op("Sin", x)))
_unary("Softplus", lambda t, call, x, y: t.op("Sigmoid", x))
_unary("Erf", _erf)
_unary("LeakyRelu", _leaky)
_unary("Elu", _elu)
_unary("HardSwish", _hard_swish)
_unary("Gelu", _gelu)


@gradient("Softmax")
def _softmax(call: Call) -> InputGradients:
    op, y = call.tape.op, call.y
    axis = call.axis("axis", -1, len(call.shape(y)))
    weighted = op("Mul", call.first_dy, y)
    return [op("Sub", weighted, op("Mul", y, call.tape.summed(weighted, [axis], keep=True)))]


@gradient("LogSoftmax")
def _log_softmax(call: Call) -> InputGradients:
    op, y = call.tape.op, call.y
    axis = call.axis("axis", -1, len(call.shape(y)))
    total = call.tape.summed(call.first_dy, [axis], keep=True)
    return [op("Sub", call.first_dy, op("Mul", op("Exp", y), total))]


@gradient("Expand")
def _expand(call: Call) -> InputGradients:
    return [_back(call, 0, call.first_dy)]


@gradient("Tile")
def _tile(call: Call) -> InputGradients:
    repeats, shape = call.constant(1), call.shape(call.x(0))
    assert repeats is not None
    split = np.stack([repeats.astype(np.int64), np.array(shape, np.int64)], axis=1).ravel().tolist()
    return [call.tape.summed(call.tape.reshaped(call.first_dy, split), list(range(0, 2 * len(shape), 2)))]
