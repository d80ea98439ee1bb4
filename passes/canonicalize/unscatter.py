"""Turn a ScatterND that overwrites a box of positions into Slice and Concat.

Exporters write ``x[:, :, 1:, 1:] = y`` as a ScatterND with one index tuple for every element that is written. No rule
knows which positions these are, so every axis of ``x`` is frozen, even an axis that the box covers completely, such as
the heads of an attention map. In a Concat of the old and the new parts such an axis passes unchanged, and the index
tensor, often larger than a layer's weights, is removed.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_node, constant, int64_initializer, is_op, replace_value, static_shape

_Box = tuple[tuple[int, int], ...]
"""The first written position of every indexed axis, and one past the last."""


def unscatter(model: ir.Model) -> int:
    """Replace, in place, every ScatterND of a box; returns how many. Dead nodes stay."""
    if model.opset_imports.get("", 0) < 13:
        return 0  # the bounds of a Slice are inputs since opset 10; canonical models have opset 13 or newer
    names, count = Names(model), 0
    for node in list(model.graph):
        plain = is_op(node, "ScatterND") and node.attributes.get_string("reduction", "none") == "none"
        box = _box(node) if plain else None
        if box is None or node.inputs[0] is None or node.inputs[2] is None or node.outputs[0].is_graph_output():
            continue
        whole = _paste(node, node.inputs[0], node.inputs[2], box, 0, names)
        count += replace_value(node.outputs[0], whole)
    return count


def _box(node: ir.Node) -> _Box | None:
    """The box that a ScatterND with constant indices writes, each position once and in order."""
    data, indices = static_shape(node.inputs[0]), constant(node.inputs[1])
    if data is None or indices is None or indices.ndim < 2 or not indices.size:
        return None
    box, axes = indices.shape[:-1], indices.shape[-1]
    if len(box) != axes or axes > len(data):
        return None
    bounds = []
    for axis in range(axes):
        column = indices[..., axis]
        first = int(column.reshape(-1)[0]) % data[axis]
        along = np.arange(first, first + box[axis]).reshape([-1 if k == axis else 1 for k in range(axes)])
        if first + box[axis] > data[axis] or not (column % data[axis] == along).all():
            return None
        bounds.append((first, first + box[axis]))
    return tuple(bounds)


def _paste(node: ir.Node, data: ir.Value, update: ir.Value, box: _Box, axis: int, names: Names) -> ir.Value:
    """``data`` with ``update`` in the box; ``data`` is already cut to the box on the axes before ``axis``."""
    shape = static_shape(data)
    assert shape is not None
    while axis < len(box) and box[axis] == (0, shape[axis]):
        axis += 1
    if axis == len(box):
        return update
    first, stop = box[axis]
    parts = [_cut(node, data, axis, 0, first, names)] if first else []
    rest = any(bounds != (0, size) for bounds, size in zip(box[axis + 1 :], shape[axis + 1 :], strict=False))
    middle = _cut(node, data, axis, first, stop, names) if rest else update
    parts.append(_paste(node, middle, update, box, axis + 1, names) if rest else update)
    if stop < shape[axis]:
        parts.append(_cut(node, data, axis, stop, shape[axis], names))
    along = [ir.AttrInt64("axis", axis)]
    return add_node(node, "Concat", parts, names, attributes=along, name=f"{node.name}_joined", like=data)


def _cut(node: ir.Node, data: ir.Value, axis: int, start: int, stop: int, names: Names) -> ir.Value:
    """The positions of one axis from ``start`` up to ``stop``."""
    shape = static_shape(data)
    assert shape is not None
    bounds = [
        int64_initializer(node, f"{node.name}_{what}", [at], names)
        for what, at in (("start", start), ("stop", stop), ("axis", axis))
    ]
    kept = (*shape[:axis], stop - start, *shape[axis + 1 :])
    return add_node(node, "Slice", [data, *bounds], names, name=f"{node.name}_cut", like=data, shape=kept)
