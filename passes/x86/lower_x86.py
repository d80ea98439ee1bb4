"""Forms of a graph that onnxruntime runs faster on x86 and that compute the same.

Softmax over an axis that is not the last: onnxruntime copies the tensor there and back, element by element. Transposed
in the graph, its own optimizer merges the copies with others beside them or does them in large pieces: on the box
distributions of a YOLOv8 head this takes a fifth of the time.

Attention: one operator, see `edgeprune.passes.x86.fuse_attention`.

Requires a canonical model of opset 13 or later. Ensures the same outputs, but for roundings inside of an attention, and
the same names.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import naming, new_node
from edgeprune.passes.x86.fuse_attention import fuse_attention

_SOFTMAX_OPS = frozenset({"LogSoftmax", "Softmax"})


def lower_x86(model: ir.Model, int8: Collection[str] = ()) -> ir.Model:
    """The model in the faster form; itself, if there is nothing to do. Nodes named in ``int8`` stay."""
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
    """(axis, rank) of a softmax over an axis with others behind it; None for anything else."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _SOFTMAX_OPS:
        return None
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    rank = len(value.shape)
    axis = node.attributes.get_int("axis", -1) % max(rank, 1)
    return None if all(d == 1 for d in tuple(value.shape)[axis + 1 :]) else (axis, rank)


def _softmax_over_last_axis(graph: ir.Graph, node: ir.Node, axis: int, rank: int) -> None:
    source, result = node.inputs[0], node.outputs[0]
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
    # The softmax now gives a new value; its old one, with its name and readers, is what is moved back.
    after = new_node(graph, "Transpose", [result], f"{node.name}_axis_back", source.dtype, {"perm": back})
    for use in tuple(result.uses()):
        if use.node is not after:
            use.node.replace_input_with(use.idx, after.outputs[0])
    graph.insert_after(node, after)
    name, restored = result.name, after.outputs[0]
    if result.is_graph_output():
        for i, output in enumerate(graph.outputs):
            if output is result:
                graph.outputs[i] = restored
    restored.shape = result.shape
    result.name, restored.name = restored.name, name
    result.shape = moved.shape.copy() if moved.shape is not None else None
