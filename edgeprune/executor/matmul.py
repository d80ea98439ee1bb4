"""Products of matrices."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeprune.executor.registry import Call, Kernel, Tensor, op


@op("MatMul")
def matmul(call: Call) -> Kernel:
    """Broadcast over the leading axes, as in NumPy."""
    kernel: Kernel = torch.matmul
    return kernel


@op("Gemm")
def gemm(call: Call) -> Kernel:
    """``alpha * A B + beta * C``; with a vector for C it is a linear layer."""
    alpha, beta = call.real("alpha", 1.0), call.real("beta", 1.0)
    left, right = call.integer("transA", 0), call.integer("transB", 0)
    vector = not call.has(2) or (call.rank(2) == 1 and call.shape(2)[0] != 1)

    def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.linear(x, weight if right else weight.t(), bias)

    def general(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        product = torch.matmul(x.t() if left else x, weight.t() if right else weight)
        product = product * alpha if alpha != 1 else product
        return product if bias is None else product + (bias * beta if beta != 1 else bias)

    return linear if vector and alpha == beta == 1 and not left else general


@op("Einsum")
def einsum(call: Call) -> Kernel:
    """Spaces have no meaning."""
    equation = call.text("equation", "").replace(" ", "")
    return lambda *xs: torch.einsum(equation, *xs)
