"""Gradients of MatMul and Gemm."""

from __future__ import annotations

from edgeprune.gradients.tape import Call, InputGradients, Unsupported, gradient


@gradient("Gemm")
def _gemm(call: Call) -> InputGradients:
    op, dy, attributes = call.tape.op, call.first_dy, call.node.attributes
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    flip_a, flip_b = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    a, b = call.x(0), call.x(1)
    da = db = dc = None
    if call.wants(0) and flip_a:
        da = op("Gemm", b, dy, alpha=alpha, transA=flip_b, transB=1)
    elif call.wants(0):
        da = op("Gemm", dy, b, alpha=alpha, transA=0, transB=1 - flip_b)
    if call.wants(1) and flip_b:
        db = op("Gemm", dy, a, alpha=alpha, transA=1, transB=flip_a)
    elif call.wants(1):
        db = op("Gemm", a, dy, alpha=alpha, transA=1 - flip_a, transB=0)
    if call.wants(2):
        dc = call.tape.scaled(call.tape.summed_to(dy, call.shape(call.y), call.shape(call.x(2))), beta)
    return da, db, dc


@gradient("MatMul")
def _matmul(call: Call) -> InputGradients:
    tape, dy = call.tape, call.first_dy
    a, b = call.shape(call.x(0)), call.shape(call.x(1))
    if len(a) < 2 or len(b) < 2:
        raise Unsupported("MatMul of a vector")
    y = call.shape(call.y)
    left = right = None
    if call.wants(0):
        product = tape.op("MatMul", dy, tape.transposed(call.x(1), _swapped(len(b))))
        left = tape.summed_to(product, (*y[:-1], a[-1]), a)
    if call.wants(1) and len(b) == 2:
        rows, outputs = tape.reshaped(call.x(0), (-1, a[-1])), tape.reshaped(dy, (-1, y[-1]))
        right = tape.op("Gemm", rows, outputs, transA=1)
    elif call.wants(1):
        product = tape.op("MatMul", tape.transposed(call.x(0), _swapped(len(a))), dy)
        right = tape.summed_to(product, (*y[:-2], *b[-2:]), b)
    return left, right


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]
