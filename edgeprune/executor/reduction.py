"""Reductions, and the search for extremes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from edgeprune.executor.registry import Call, Kernel, Tensor, axes_of, ints, op

Reduced = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _product(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


_REDUCED: dict[str, Reduced] = {
    "ReduceMean": lambda x, axes, keep: _mean(x, axes, keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceMax": lambda x, axes, keep: _extreme(torch.amax, x, axes, keep, -math.inf),
    "ReduceMin": lambda x, axes, keep: _extreme(torch.amin, x, axes, keep, math.inf),
    "ReduceProd": _product,
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceL2": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep, dtype=x.dtype).sqrt().to(x.dtype),
    "ReduceSumSquare": lambda x, axes, keep: (x * x).sum(axes, keepdim=keep, dtype=x.dtype),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


@op(*_REDUCED, host=(1,))
def reduced(call: Call) -> Kernel:
    """Axes are an input in newer opsets; without axes all are reduced, or none by ``noop_with_empty_axes``."""
    run, keep = _REDUCED[call.node.op_type], bool(call.integer("keepdims", 1))
    read, nothing = axes_of(call, 1), bool(call.integer("noop_with_empty_axes", 0))
    each: Callable[[Tensor], Tensor] = {
        "ReduceSumSquare": lambda x: x * x,
        "ReduceL1": torch.abs,
        "ReduceL2": torch.abs,
        "ReduceLogSum": torch.log,
    }.get(call.node.op_type, lambda x: x)

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = read(axes)
        if not found:
            if nothing:
                return each(x)
            found = list(range(x.dim()))
        return run(x, tuple(a % max(1, x.dim()) for a in found), keep) if x.dim() else each(x)

    return kernel


@op("ArgMax", "ArgMin")
def arg_extreme(call: Call) -> Kernel:
    """The first of equal extremes, or the last."""
    axis, keep = call.integer("axis", 0), bool(call.integer("keepdims", 1))
    run = torch.argmax if call.node.op_type == "ArgMax" else torch.argmin
    if not call.integer("select_last_index", 0):
        return lambda x: run(x, axis, keepdim=keep)
    return lambda x: x.shape[axis] - 1 - run(x.flip(axis), axis, keepdim=keep)


@op("TopK", host=(1,))
def top_k(call: Call) -> Kernel:
    """Values and positions; among equal values the smaller position comes first."""
    axis, largest = call.integer("axis", -1), bool(call.integer("largest", 1))
    fixed = call.integer("k", 0)

    def kernel(x: Tensor, k: Tensor | None = None) -> tuple[Tensor, Tensor]:
        count = fixed if k is None else ints(k)[0]
        values, positions = torch.sort(x, dim=axis, descending=largest, stable=True)
        return values.narrow(axis, 0, count), positions.narrow(axis, 0, count)

    return kernel


@op("CumSum", host=(1,))
def cumulative_sum(call: Call) -> Kernel:
    """From either end, with or without the element itself."""
    exclusive, backwards = call.integer("exclusive", 0), call.integer("reverse", 0)

    def kernel(x: Tensor, axis: Tensor) -> Tensor:
        (a,) = ints(axis)
        y = x.flip(a) if backwards else x
        summed = torch.cumsum(y, a).to(x.dtype)
        summed = summed - y if exclusive else summed
        return summed.flip(a) if backwards else summed

    return kernel


def _extreme(run: Kernel, x: Tensor, axes: tuple[int, ...], keep: bool, nothing: float) -> Tensor:
    """The maximum or minimum; of no elements it is infinite."""
    if x.numel() or not x.is_floating_point():
        return run(x, axes, keepdim=keep)
    return x.sum(axes, keepdim=keep) + nothing


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    return x.mean(axes, keepdim=keep) if x.is_floating_point() else x.double().mean(axes, keepdim=keep).to(x.dtype)
