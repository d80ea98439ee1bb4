"""Shapes behind operators whose output length depends on the data: at most as long as the graph allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import constant, input_at, is_op, static_shape

Shape = tuple[int, ...]


def bounded_shapes(model: ir.Model) -> Mapping[str, Shape]:
    """Value name -> shape, for values whose shape is unknown because a length before them depends on the data.

    Every such length is the largest possible: a NonMaxSuppression keeps at most the boxes that it may select, a NonZero
    finds every element. A kernel priced at these shapes takes its longest time.

    Args:
        model: not changed; its inputs have fixed shapes.
    """
    sources = data_dependent(model)
    if not sources:
        return {}
    bounded = graphs.clone(model)
    for name in [str(node.name) for node in sources]:
        node = next(n for n in bounded.graph if n.name == name)
        shapes = _BOUNDS[node.op_type](node)
        if shapes is None:
            continue
        for index, (value, shape) in enumerate(zip(node.outputs, shapes, strict=False)):
            if not value.name or value.is_graph_output():
                continue
            read = ir.Value(name=f"{name}.bound{index}", type=value.type, shape=ir.Shape(shape))
            bounded.graph.inputs.append(read)
            value.replace_all_uses_with(read)
            value.shape = ir.Shape(shape)
        graphs.infer_shapes(bounded)
        for value, shape in zip(node.outputs, shapes, strict=False):
            value.shape = ir.Shape(shape)
    found = {str(v.name): static_shape(v) for node in bounded.graph for v in node.outputs if v.name}
    unknown = {str(v.name) for node in model.graph for v in node.outputs if static_shape(v) is None}
    return {name: shape for name, shape in found.items() if shape is not None and name in unknown}


def data_dependent(model: ir.Model) -> list[ir.Node]:
    """The nodes whose output length depends on the data, in graph order."""
    return [
        node
        for node in model.graph
        if is_op(node, *_BOUNDS) and any(static_shape(value) is None for value in node.outputs if value.name)
    ]


def _selected_boxes(node: ir.Node) -> list[Shape] | None:
    """(batch * classes * boxes for each class, 3)."""
    boxes, scores = (static_shape(value) if value is not None else None for value in node.inputs[:2])
    if boxes is None or scores is None or len(scores) != 3:
        return None
    most = constant(input_at(node, 2))
    each = scores[2] if most is None else min(int(most.reshape(-1)[0]), scores[2])
    return [(scores[0] * scores[1] * max(each, 0), 3)]


def _nonzero(node: ir.Node) -> list[Shape] | None:
    """(rank, elements)."""
    shape = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
    return None if shape is None else [(max(len(shape), 1), math.prod(shape))]


def _along(node: ir.Node) -> tuple[Shape, int] | None:
    """The input's shape, flattened unless the node has an axis, and this axis."""
    shape = static_shape(node.inputs[0]) if node.inputs and node.inputs[0] is not None else None
    if shape is None:
        return None
    if "axis" not in node.attributes:
        return (math.prod(shape),), 0
    return shape, node.attributes.get_int("axis", 0) % max(len(shape), 1)


def _compress(node: ir.Node) -> list[Shape] | None:
    found, condition = _along(node), input_at(node, 1)
    flags = static_shape(condition) if condition is not None else None
    if found is None or flags is None:
        return None
    shape, axis = found
    return [tuple(min(n, flags[0]) if a == axis else n for a, n in enumerate(shape))]


def _unique(node: ir.Node) -> list[Shape] | None:
    found = _along(node)
    if found is None:
        return None
    shape, axis = found
    return [shape, *[(shape[axis],)] * 3]


_BOUNDS: dict[str, Callable[[ir.Node], list[Shape] | None]] = {
    "Compress": _compress,
    "NonMaxSuppression": _selected_boxes,
    "NonZero": _nonzero,
    "Unique": _unique,
}
