"""Where the samples go in operators that move elements; constants that hold a batch of one are rewritten."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeprune.executor.batch_work import Axis, BatchWork
from edgeprune.graph import add_node, constant, int64_initializer


def reshape(work: BatchWork, node: ir.Node) -> Axis:
    """The samples begin an axis of the target, or lie inside of one."""
    value, axis, shape = work.data(node)
    out = work.shape(node, node.outputs[0])
    before = math.prod(shape[:axis]) * work.outside.get(value, 1)
    after = math.prod(shape) // max(1, before)
    if constant(node.inputs[1]) is None:
        raise work.refuse(node, "has a target that is computed")
    # The first axis that begins where the samples do, or one that has them inside. The last axis is for features.
    starts = [i for i in range(len(out)) if math.prod(out[:i]) == before and math.prod(out[i:]) == after]
    inside = [i for i in range(len(out)) if before % math.prod(out[:i]) == 0 and after % math.prod(out[i + 1 :]) == 0]
    starts.sort(key=lambda i: (out[i] != 1, i))
    early = [i for i in (*starts, *inside) if out[i] == 1 or i < len(out) - 1]
    place = next(iter((*early, *starts, *inside)), None)
    if place is None:
        raise work.refuse(node, "divides the axis of the samples")
    work.outside[node.outputs[0]] = before // math.prod(out[:place])
    wanted = list(out)
    wanted[place] = -1
    node.replace_input_with(1, int64_initializer(node, f"{node.name}_target", wanted, work.names))
    return place


def squeeze(work: BatchWork, node: ir.Node) -> Axis:
    """Axes of length 1 go, but not that of the samples."""
    _, axis, shape = work.data(node)
    given = axes_of(node)
    gone = sorted(a % len(shape) for a in given) if given is not None else [i for i, d in enumerate(shape) if d == 1]
    if axis in gone:
        raise work.refuse(node, "removes the axis of the samples")
    return axis - sum(a < axis for a in gone)


def unsqueeze(work: BatchWork, node: ir.Node) -> Axis:
    """New axes shift the axis of the samples."""
    _, axis, shape = work.data(node)
    given = axes_of(node) or []
    new = {a % (len(shape) + len(given)) for a in given}
    old = [i for i in range(len(shape) + len(given)) if i not in new]
    return old[axis]


def flatten(work: BatchWork, node: ir.Node) -> Axis:
    """Two axes; the samples are in one of them."""
    value, axis, shape = work.data(node)
    cut = node.attributes.get_int("axis", 1) % (len(shape) + 1)
    before = shape[:axis] if axis < cut else shape[cut:axis]
    work.outside[node.outputs[0]] = math.prod(before) * work.outside.get(value, 1)
    return int(axis >= cut)


def transpose(work: BatchWork, node: ir.Node) -> Axis:
    """The axis moves with the others."""
    _, axis, shape = work.data(node)
    found = node.attributes.get("perm")
    order = list(found.as_ints()) if found is not None else list(reversed(range(len(shape))))
    return order.index(axis)


def concat(work: BatchWork, node: ir.Node) -> Axis:
    """A constant is repeated for every sample."""
    places = {work.axis(v) for v in node.inputs} - {None}
    rank = len(work.shape(node, node.outputs[0]))
    if len(places) != 1 or (place := next(iter(places))) == node.attributes.get_int("axis", 0) % rank or place is None:
        raise work.refuse(node, "has samples on different axes")
    like = next(v for v in node.inputs if work.axis(v) is not None)
    assert like is not None
    for i, value in enumerate(node.inputs):
        if work.axis(value) is None and value is not None:
            shape = work.shape(node, value)
            if shape[place] != 1:
                raise work.refuse(node, "meets a constant that has an element for every sample")
            lengths = work.sized(node, like, place, [1] * rank, place)
            node.replace_input_with(i, add_node(node, "Expand", [value, lengths], work.names,
                                                name=f"{node.name}_each", like=value))  # fmt: skip
    return place


def slices(work: BatchWork, node: ir.Node) -> Axis:
    """The axis of the samples stays whole."""
    _, axis, shape = work.data(node)
    parts = [constant(v) if v is not None else None for v in (*node.inputs[1:], None, None, None)][:4]
    starts, ends, axes, steps = parts
    if starts is None or ends is None:
        raise work.refuse(node, "has limits that are computed")
    where = range(len(starts)) if axes is None else [int(a) % len(shape) for a in axes]
    for i, a in enumerate(where):
        step = 1 if steps is None else int(steps[i])
        if a == axis and ((int(starts[i]), step) != (0, 1) or int(ends[i]) < 1 << 30):
            raise work.refuse(node, "cuts the axis of the samples")
    return axis


def pad(work: BatchWork, node: ir.Node) -> Axis:
    """The axis of the samples is not padded."""
    _, axis, shape = work.data(node)
    pads = constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if pads is None or len(node.inputs) > 3 or pads[axis] or pads[axis + len(shape)]:
        raise work.refuse(node, "may pad the axis of the samples")
    return axis


def gather(work: BatchWork, node: ir.Node) -> Axis:
    """A table has a row for every sample's index; otherwise the axis shifts with those of the indices."""
    table, indices = node.inputs[0], node.inputs[1]
    rank = len(work.shape(node, table))
    along, here, there = node.attributes.get_int("axis", 0) % rank, work.axis(table), work.axis(indices)
    if here is None and there is not None:
        return along + there
    if here is None or there is not None or here == along:
        raise work.refuse(node, "picks along the axis of the samples")
    return here if here < along else here + len(work.shape(node, indices)) - 1


def resize(work: BatchWork, node: ir.Node) -> Axis:
    """Constant sizes get the number of samples."""
    value, axis, _ = work.data(node)
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    array = constant(sizes) if sizes is not None else None
    if axis or "axes" in node.attributes:
        if axis or 0 in node.attributes["axes"].as_ints():
            raise work.refuse(node, "has the samples on another axis than the first")
        return 0
    if array is not None and array.size:
        node.replace_input_with(3, work.sized(node, value, 0, [int(d) for d in array], 0))
    return 0


def expand(work: BatchWork, node: ir.Node) -> Axis:
    """1 in the target keeps the samples."""
    _, axis, shape = work.data(node)
    out, target = work.shape(node, node.outputs[0]), constant(node.inputs[1])
    place = axis + len(out) - len(shape)
    if target is None or out[place] != shape[axis]:
        raise work.refuse(node, "repeats samples")
    wanted = np.array(target)
    if place - len(out) + len(wanted) >= 0:
        wanted[place - len(out) + len(wanted)] = 1
        node.replace_input_with(1, int64_initializer(node, f"{node.name}_target", wanted.tolist(), work.names))
    return place


def axes_of(node: ir.Node) -> list[int] | None:
    """Axes, by attribute or constant input."""
    found = node.attributes.get("axes")
    if found is not None:
        return [int(a) for a in found.as_ints()]
    array = constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    return None if array is None else [int(a) for a in array.reshape(-1)]
