"""Gradients of operators that move, cut or concatenate values."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.gradients.tape import Call, InputGradients, Shape, Unsupported, gradient

Ints: TypeAlias = "NDArray[Any]"


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(call: Call) -> InputGradients:
    return [call.tape.reshaped(call.first_dy, call.shape(call.x(0)))]


@gradient("Transpose")
def _transpose(call: Call) -> InputGradients:
    rank = len(call.shape(call.y))
    order = call.node.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return [call.tape.transposed(call.first_dy, np.argsort(order).tolist())]


@gradient("Concat")
def _concat(call: Call) -> InputGradients:
    axis = call.axis("axis", 0, len(call.shape(call.y)))
    given: list[ir.Value | None] = []
    start = 0
    for index, want in enumerate(call.wanted):
        end = start + call.shape(call.x(index))[axis]
        given.append(call.tape.sliced(call.first_dy, [start], [end], [axis]) if want else None)
        start = end
    return given


@gradient("Split")
def _split(call: Call) -> InputGradients:
    axis = call.axis("axis", 0, len(call.shape(call.x(0))))
    parts = []
    for output, dy in zip(call.node.outputs, call.dy, strict=True):
        parts.append(dy if dy is not None else call.tape.zeros(call.shape(output)))
    return [call.tape.op("Concat", *parts, axis=axis)]


@gradient("Slice")
def _slice_gradient(call: Call) -> InputGradients:
    shape = call.shape(call.x(0))
    starts, ends, axes, steps = (call.constant(i) for i in range(1, 5))
    if starts is None or ends is None:
        raise Unsupported("Slice without bounds")
    axes = np.arange(len(starts)) if axes is None else axes
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    if (steps != 1).any():
        return _scattered_slice(call, shape, starts, ends, axes, steps)
    pads = np.zeros((2, len(shape)), np.int64)
    for start, end, axis in zip(starts, ends, axes, strict=True):
        first, last, _ = slice(int(start), int(end)).indices(shape[int(axis)])
        pads[:, int(axis)] = first, shape[int(axis)] - max(first, last)
    return [call.tape.op("Pad", call.first_dy, call.tape.constant(pads.ravel()))]


def _scattered_slice(call: Call, shape: Shape, starts: Ints, ends: Ints, axes: Ints, steps: Ints) -> InputGradients:
    chosen = [np.arange(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[int(axis)]
        low = int(max(end, -size - 1))
        chosen[int(axis)] = np.arange(size)[slice(int(start), None if low < -size else low, int(step))]
    flat = np.arange(int(np.prod(shape))).reshape(shape)[np.ix_(*chosen)]
    return [call.tape.scattered(call.first_dy, call.tape.constant(flat.ravel()), shape)]


@gradient("Gather")
def _gather(call: Call) -> InputGradients:
    indices, shape = call.constant(1), call.shape(call.x(0))
    assert indices is not None
    axis = call.axis("axis", 0, len(shape))
    flat = np.take(np.arange(int(np.prod(shape))).reshape(shape), indices.astype(np.int64), axis=axis)
    return [call.tape.scattered(call.first_dy, call.tape.constant(flat.ravel()), shape)]


@gradient("Pad")
def _pad(call: Call) -> InputGradients:
    pads, shape = call.constant(1), call.shape(call.x(0))
    axes = call.constant(3)
    if call.node.attributes.get_string("mode", "constant") != "constant" or pads is None or (pads < 0).any():
        raise Unsupported("Pad that repeats or cuts")
    places = list(range(len(shape))) if axes is None else [int(a) % len(shape) for a in axes]
    starts = [int(p) for p in pads[: len(places)]]
    ends = [start + shape[axis] for start, axis in zip(starts, places, strict=True)]
    return [call.tape.sliced(call.first_dy, starts, ends, places)]


@gradient("Resize")
def _resize(call: Call) -> InputGradients:
    """Nearest-neighbour upsampling by integer factors: the gradient of an output goes to the input that it copies."""
    attributes, tape = call.node.attributes, call.tape
    small, large = call.shape(call.x(0)), call.shape(call.y)
    whole = all(b % a == 0 for a, b in zip(small, large, strict=True))
    if attributes.get_string("mode", "nearest") != "nearest" or not whole:
        raise Unsupported("Resize other than nearest-neighbour by integer factors")
    copies = (
        attributes.get_string("coordinate_transformation_mode", "half_pixel"),
        attributes.get_string("nearest_mode", "round_prefer_floor"),
    )
    if copies not in {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "floor")}:
        raise Unsupported(f"Resize with {copies[0]} coordinates and {copies[1]}")
    split = [size for a, b in zip(small, large, strict=True) for size in (a, b // a)]
    return [tape.summed(tape.reshaped(call.first_dy, split), list(range(1, 2 * len(small), 2)))]


@gradient("DepthToSpace")
def _depth_to_space(call: Call) -> InputGradients:
    if call.node.attributes.get_string("mode", "DCR") != "DCR":
        raise Unsupported("DepthToSpace in CRD order")
    size = call.node.attributes.get_int("blocksize", 1)
    return [call.tape.op("SpaceToDepth", call.first_dy, blocksize=size)]


@gradient("SpaceToDepth")
def _space_to_depth(call: Call) -> InputGradients:
    size = call.node.attributes.get_int("blocksize", 1)
    return [call.tape.op("DepthToSpace", call.first_dy, blocksize=size, mode="DCR")]
