"""Operators that only move or repeat elements, and those that read shapes."""

from __future__ import annotations

import math

import numpy as np
import torch

from edgeprune.errors import ModelError
from edgeprune.executor.registry import TYPES, Call, Kernel, Tensor, axes_of, ints, op


@op("Constant")
def constant(call: Call) -> Kernel:
    """A tensor, a number or a list of numbers."""
    found = call.attributes
    if "value" in found:
        tensor = torch.from_numpy(np.array(found["value"].as_tensor().numpy()))
    elif "value_int" in found or "value_ints" in found:
        tensor = torch.tensor(found["value_int"].as_int() if "value_int" in found else call.integers("value_ints"))
    elif "value_float" in found:
        tensor = torch.tensor(found["value_float"].as_float(), dtype=torch.float32)
    elif "value_floats" in found:
        tensor = torch.tensor(list(found["value_floats"].as_floats()), dtype=torch.float32)
    else:
        raise ModelError(f"the constant {call.node.name!r} is no tensor of numbers")
    return lambda: tensor


@op("Shape")
def shape(call: Call) -> Kernel:
    """Constant for given shapes of the network's inputs."""
    start, end = call.integer("start", 0), call.integer("end", 1 << 30)
    return lambda x: torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


@op("Size")
def size(call: Call) -> Kernel:
    """The number of elements."""
    return lambda x: torch.tensor(x.numel(), dtype=torch.int64)


@op("Reshape", host=(1,))
def reshape(call: Call) -> Kernel:
    """0 keeps an axis, unless ``allowzero`` is set; -1 is what is left."""
    allow = bool(call.integer("allowzero", 0))

    def kernel(x: Tensor, target: Tensor) -> Tensor:
        return x.reshape([x.shape[i] if d == 0 and not allow else d for i, d in enumerate(ints(target))])

    return kernel


@op("Transpose")
def transpose(call: Call) -> Kernel:
    """The axes in another order, by default reversed."""
    order = call.integers("perm") or list(reversed(range(call.rank())))
    return lambda x: x.permute(order)


@op("Flatten")
def flatten(call: Call) -> Kernel:
    """Two axes: before and from ``axis`` on."""
    axis = call.integer("axis", 1)
    return lambda x: x.reshape(math.prod(x.shape[:axis]), -1)


@op("Squeeze", host=(1,))
def squeeze(call: Call) -> Kernel:
    """Without axes all of length 1 go."""
    read = axes_of(call, 1)

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = read(axes)
        return x.squeeze() if found is None else x.squeeze(tuple(found))

    return kernel


@op("Unsqueeze", host=(1,))
def unsqueeze(call: Call) -> Kernel:
    """Axes count in the result."""
    read = axes_of(call, 1)

    def kernel(x: Tensor, axes: Tensor | None = None) -> Tensor:
        found = read(axes) or []
        for axis in sorted(a % (x.dim() + len(found)) for a in found):
            x = x.unsqueeze(axis)
        return x

    return kernel


@op("Expand", host=(1,))
def expand(call: Call) -> Kernel:
    """Broadcast in both directions: 1 in the target keeps an axis."""
    return lambda x, target: x.expand(torch.broadcast_shapes(x.shape, tuple(ints(target))))


@op("Tile", host=(1,))
def tile(call: Call) -> Kernel:
    """Repeated along every axis."""
    return lambda x, repeats: x.repeat(*ints(repeats)) if x.dim() else x


@op("Concat")
def concat(call: Call) -> Kernel:
    """Along one axis."""
    axis = call.integer("axis", 0)
    return lambda *xs: torch.cat(xs, axis)


@op("Split", host=(1,))
def split(call: Call) -> Kernel:
    """In given sizes, or in as many equal parts as there are outputs; the last one may be smaller."""
    axis, parts, fixed = call.integer("axis", 0), len(call.node.outputs), call.integers("split")

    def kernel(x: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        lengths = fixed if sizes is None else ints(sizes)
        if lengths is not None:
            return tuple(x.split(lengths, axis))
        return tuple(x.split(-(-x.shape[axis] // parts), axis))

    return kernel


@op("ConstantOfShape", host=(0,))
def constant_of_shape(call: Call) -> Kernel:
    """One value, by default 0 in float32."""
    found = call.attributes.get("value")
    tensor = None if found is None else found.as_tensor()
    number = 0.0 if tensor is None else tensor.numpy().reshape(-1)[0].item()
    dtype = torch.float32 if tensor is None else TYPES[tensor.dtype]
    return lambda target: torch.full(ints(target), number, dtype=dtype)


@op("Range", host=(0, 1, 2))
def arange(call: Call) -> Kernel:
    """From a start to a limit, without it."""
    return lambda start, limit, step: torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


@op("EyeLike")
def eye_like(call: Call) -> Kernel:
    """Ones on a diagonal."""
    diagonal = call.integer("k", 0)

    def kernel(x: Tensor) -> Tensor:
        return torch.diag(x.new_ones(max(x.shape) + abs(diagonal)), diagonal)[: x.shape[0], : x.shape[1]]

    return kernel


@op("DepthToSpace")
def depth_to_space(call: Call) -> Kernel:
    """Blocks of channels become blocks of pixels."""
    block, mode = call.integer("blocksize", 1), call.text("mode", "DCR")

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        inner = c // (block * block)
        if mode == "DCR":
            y = x.reshape(n, block, block, inner, h, w).permute(0, 3, 4, 1, 5, 2)
        else:
            y = x.reshape(n, inner, block, block, h, w).permute(0, 1, 4, 2, 5, 3)
        return y.reshape(n, inner, h * block, w * block)

    return kernel


@op("SpaceToDepth")
def space_to_depth(call: Call) -> Kernel:
    """Blocks of pixels become blocks of channels."""
    block, mode = call.integer("blocksize", 1), call.text("mode", "DCR")
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)

    def kernel(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y = x.reshape(n, c, h // block, block, w // block, block).permute(order)
        return y.reshape(n, c * block * block, h // block, w // block)

    return kernel
