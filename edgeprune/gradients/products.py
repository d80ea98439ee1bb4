"""Gradients of matrix products."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune.gradients.tape import Call, Unsupported, gradient

Given = Sequence["ir.Value | None"]


@gradient("Gemm")
def _gemm(call: Call) -> Given:
    op, dy, attributes = call.tape.op, call.first_dy, call.node.attributes
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    flip_a, flip_b = attributes.get_int("transA", 0), attributes.get_int("transB", 0)
    a, b = call.x(0), call.x(1)
    given: list[ir.Value | None] = [None] * len(call.node.inputs)
    if call.wanted[0]:
        given[0] = (
            op("Gemm", b, dy, alpha=alpha, transA=flip_b, transB=1)
            if flip_a
            else op("Gemm", dy, b, alpha=alpha, transA=0, transB=1 - flip_b)
        )
    if call.wanted[1]:
        given[1] = (
            op("Gemm", dy, a, alpha=alpha, transA=1, transB=flip_a)
            if flip_b
            else op("Gemm", a, dy, alpha=alpha, transA=1 - flip_a, transB=0)
        )
    if len(given) > 2 and call.wanted[2]:
        given[2] = call.tape.scaled(call.tape.summed_to(dy, call.shape(call.y), call.shape(call.x(2))), beta)
    return given


@gradient("MatMul")
def _matmul(call: Call) -> Given:
    tape, dy = call.tape, call.first_dy
    a, b = call.shape(call.x(0)), call.shape(call.x(1))
    if len(a) < 2 or len(b) < 2:
        raise Unsupported("MatMul of a vector")
    y = call.shape(call.y)
    left = right = None
    if call.wanted[0]:
        product = tape.op("MatMul", dy, tape.transposed(call.x(1), _swapped(len(b))))
        left = tape.summed_to(product, (*y[:-1], a[-1]), a)
    if call.wanted[1] and len(b) == 2:
        rows, outputs = tape.reshaped(call.x(0), (-1, a[-1])), tape.reshaped(dy, (-1, y[-1]))
        right = tape.op("Gemm", rows, outputs, transA=1)
    elif call.wanted[1]:
        product = tape.op("MatMul", tape.transposed(call.x(0), _swapped(len(a))), dy)
        right = tape.summed_to(product, (*y[:-2], *b[-2:]), b)
    return left, right


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]
