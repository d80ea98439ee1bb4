"""Gradients of operators that move, cut or join values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.gradients.tape import Call, Shape, Unsupported, gradient

Given = Sequence["ir.Value | None"]
Ints: TypeAlias = "NDArray[Any]"


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(call: Call) -> Given:
    return [call.tape.reshaped(call.first_dy, call.shape(call.x(0))), *[None] * (len(call.node.inputs) - 1)]


@gradient("Transpose")
def _transpose(call: Call) -> Given:
    rank = len(call.shape(call.y))
    order = call.node.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return [call.tape.transposed(call.first_dy, np.argsort(order).tolist())]


@gradient("Concat")
def _concat(call: Call) -> Given:
    axis = call.axis("axis", 0, len(call.shape(call.y)))
    given: list[ir.Value | None] = []
    start = 0
    for index, want in enumerate(call.wanted):
        end = start + call.shape(call.x(index))[axis]
        given.append(_slice(call, call.first_dy, start, end, axis) if want else None)
        start = end
    return given


def _slice(call: Call, x: ir.Value, start: int, end: int, axis: int) -> ir.Value:
    constant = call.tape.constant
    return call.tape.op("Slice", x, constant([start]), constant([end]), constant([axis]))


@gradient("Split")
def _split(call: Call) -> Given:
    axis = call.axis("axis", 0, len(call.shape(call.x(0))))
    parts = []
    for output, dy in zip(call.node.outputs, call.dy, strict=True):
        parts.append(dy if dy is not None else call.tape.zeros(call.shape(output)))
    return [call.tape.op("Concat", *parts, axis=axis), *[None] * (len(call.node.inputs) - 1)]


@gradient("Slice")
def _slice_gradient(call: Call) -> Given:
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
    return [call.tape.op("Pad", call.first_dy, call.tape.constant(pads.ravel())), *[None] * (len(call.node.inputs) - 1)]


def _scattered_slice(call: Call, shape: Shape, starts: Ints, ends: Ints, axes: Ints, steps: Ints) -> Given:
    chosen = [np.arange(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[int(axis)]
        low = int(max(end, -size - 1))
        chosen[int(axis)] = np.arange(size)[slice(int(start), None if low < -size else low, int(step))]
    flat = np.arange(int(np.prod(shape))).reshape(shape)[np.ix_(*chosen)]
    return [_scattered(call, flat, shape), *[None] * (len(call.node.inputs) - 1)]


def _scattered(call: Call, flat: Ints, shape: Shape) -> ir.Value:
    """Gradients put back to the flat positions that they were read from, added up where read twice."""
    tape = call.tape
    zeros = tape.zeros([int(np.prod(shape))])
    given = tape.reshaped(call.first_dy, (-1,))
    found = tape.op("ScatterElements", zeros, tape.constant(flat.ravel()), given, axis=0, reduction="add")
    return tape.reshaped(found, shape)


@gradient("Gather")
def _gather(call: Call) -> Given:
    indices, shape = call.constant(1), call.shape(call.x(0))
    assert indices is not None
    axis = call.axis("axis", 0, len(shape))
    flat = np.take(np.arange(int(np.prod(shape))).reshape(shape), indices.astype(np.int64), axis=axis)
    return _scattered(call, flat, shape), None


@gradient("Pad")
def _pad(call: Call) -> Given:
    pads, shape = call.constant(1), call.shape(call.x(0))
    axes = call.constant(3) if len(call.node.inputs) > 3 else None
    if call.node.attributes.get_string("mode", "constant") != "constant" or pads is None or (pads < 0).any():
        raise Unsupported("Pad that repeats or cuts")
    places = list(range(len(shape))) if axes is None else [int(a) % len(shape) for a in axes]
    constant = call.tape.constant
    starts = [int(p) for p in pads[: len(places)]]
    ends = [start + shape[axis] for start, axis in zip(starts, places, strict=True)]
    cut = call.tape.op("Slice", call.first_dy, constant(starts), constant(ends), constant(places))
    return [cut, *[None] * (len(call.node.inputs) - 1)]


@gradient("Resize")
def _resize(call: Call) -> Given:
    """Nearest-neighbour enlargement by whole factors: every output goes back to the one input that it copies."""
    attributes, tape = call.node.attributes, call.tape
    small, large = call.shape(call.x(0)), call.shape(call.y)
    whole = all(b % a == 0 for a, b in zip(small, large, strict=True))
    if attributes.get_string("mode", "nearest") != "nearest" or not whole:
        raise Unsupported("Resize other than nearest-neighbour by whole factors")
    copies = (
        attributes.get_string("coordinate_transformation_mode", "half_pixel"),
        attributes.get_string("nearest_mode", "round_prefer_floor"),
    )
    if copies not in {("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("half_pixel", "floor")}:
        raise Unsupported(f"Resize with {copies[0]} coordinates and {copies[1]}")
    split = [size for a, b in zip(small, large, strict=True) for size in (a, b // a)]
    total = tape.summed(tape.reshaped(call.first_dy, split), list(range(1, 2 * len(small), 2)))
    return [total, *[None] * (len(call.node.inputs) - 1)]


@gradient("DepthToSpace")
def _depth_to_space(call: Call) -> Given:
    if call.node.attributes.get_string("mode", "DCR") != "DCR":
        raise Unsupported("DepthToSpace in CRD order")
    size = call.node.attributes.get_int("blocksize", 1)
    return [call.tape.op("SpaceToDepth", call.first_dy, blocksize=size)]


@gradient("SpaceToDepth")
def _space_to_depth(call: Call) -> Given:
    size = call.node.attributes.get_int("blocksize", 1)
    return [call.tape.op("DepthToSpace", call.first_dy, blocksize=size, mode="DCR")]
