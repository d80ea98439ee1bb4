"""Rewrite a graph to forms that compute the same and that onnxruntime runs faster on x86.

Softmax over an axis that is not the last: onnxruntime transposes the tensor there and back, element by element. If the
graph has the Transposes, its optimizer merges them with others or copies large pieces: on the box distributions of a
YOLOv8 head this takes a fifth of the time.

Attention: one operator, see `edgeprune.passes.x86.fuse_attention`.

Requires a canonical model of opset 13 or later. Ensures the same names and the same outputs, except for rounding inside
an attention.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import is_op, naming, new_node
from edgeprune.passes.x86.edits import append
from edgeprune.passes.x86.fuse_attention import fuse_attention


def lower_x86(model: ir.Model, int8: Collection[str] = ()) -> ir.Model:
    """The model in the faster form, or the model itself if there is nothing to do. Nodes named in ``int8`` stay."""
    if model.graph.opset_imports.get("", 0) < 13:
        return model
    if any(_middle_axis(n) for n in model.graph):
        model = graphs.clone(model)
        with naming(model.graph):
            for node in list(model.graph):
                if axis := _middle_axis(node):
                    _softmax_over_last_axis(model.graph, node, *axis)
    return fuse_attention(model, int8)


def _middle_axis(node: ir.Node) -> tuple[int, int] | None:
    """(axis, rank) of a softmax over an axis that is not the last; None for other nodes."""
    if not is_op(node, "LogSoftmax", "Softmax"):
        return None
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    axis = node.attributes.get_int("axis", -1) % max(rank, 1)
    return None if all(d == 1 for d in tuple(value.shape)[axis + 1 :]) else (axis, rank)


def _softmax_over_last_axis(graph: ir.Graph, node: ir.Node, axis: int, rank: int) -> None:
    source = node.inputs[0]
    assert source is not None
    assert source.dtype is not None
    forth = [a for a in range(rank) if a != axis] + [axis]
    back = [forth.index(a) for a in range(rank)]
    before = new_node(graph, "Transpose", [source], f"{node.name}_axis_last", source.dtype, {"perm": forth})
    moved = before.outputs[0]
    moved.shape = ir.Shape([tuple(source.shape or ())[a] for a in forth])
    graph.insert_before(node, before)
    node.replace_input_with(0, moved)
    node.attributes.add(ir.AttrInt64("axis", -1))
    append(graph, node, "Transpose", [], f"{node.name}_axis_back", {"perm": back})
    node.outputs[0].shape = moved.shape.copy()
