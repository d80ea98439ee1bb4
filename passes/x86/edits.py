"""Edits of a quantized graph that several passes for onnxruntime share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from edgeprune.graph import is_op, new_node, replace_value


def take_place(graph: ir.Graph, old: ir.Node, new: ir.Node) -> None:
    """Replace a node by a new one, which takes over its name and the name of its result."""
    name, result = str(old.name), str(old.outputs[0].name)
    graph.insert_before(old, new)
    replace_value(old.outputs[0], new.outputs[0])
    graph.remove(old, safe=True)
    new.name, new.outputs[0].name = name, result


def insert(
    graph: ir.Graph,
    before: ir.Node,
    op: str,
    inputs: list[ir.Value],
    name: str,
    attributes: dict[str, Any] | None = None,
) -> ir.Value:
    """The result, of unknown shape, of a new node in front of another one."""
    dtype = ir.DataType.INT64 if op == "Shape" else inputs[0].dtype or ir.DataType.UINT8
    made = new_node(graph, op, inputs, name, dtype, attributes)
    made.outputs[0].shape = None
    graph.insert_before(before, made)
    value: ir.Value = made.outputs[0]
    return value


def append(
    graph: ir.Graph,
    node: ir.Node,
    op: str,
    operands: Sequence[ir.Value],
    name: str,
    attributes: dict[str, Any] | None = None,
) -> None:
    """Put an operator behind a node. Its result takes over all readers, the name and the shape of the node's result."""
    result = node.outputs[0]
    after = new_node(graph, op, [result, *operands], name, result.dtype or ir.DataType.FLOAT, attributes)
    graph.insert_after(node, after)
    old_name, appended = result.name, after.outputs[0]
    result.replace_all_uses_with(appended, replace_graph_outputs=True)
    after.replace_input_with(0, result)
    result.name, appended.name = appended.name, old_name


def dequantized_after(
    graph: ir.Graph, data: ir.Value, op: str, operands: Sequence[ir.Value], suffix: str, shape: Sequence[Any]
) -> ir.Value:
    """The value that a DequantizeLinear gives if an operator is applied to its quantized input first.

    Args:
        graph: changed in place.
        data: the result of a DequantizeLinear.
        op: the operator.
        operands: inputs of the operator behind the quantized one.
        suffix: of the names of the new nodes.
        shape: of the result.
    """
    read = data.producer()
    assert read is not None
    assert is_op(read, "DequantizeLinear")
    quantized, scale, zero = (v for v in read.inputs if v is not None)
    name = f"{data.name}_{suffix}"
    made = new_node(graph, op, [quantized, *operands], name, ir.DataType.UINT8)
    restored = new_node(graph, "DequantizeLinear", [made.outputs[0], scale, zero], f"{name}_dequantize",
                        ir.DataType.FLOAT)  # fmt: skip
    made.outputs[0].shape = restored.outputs[0].shape = ir.Shape(shape)
    graph.insert_after(read, [made, restored])
    value: ir.Value = restored.outputs[0]
    return value
