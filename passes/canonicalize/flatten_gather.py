"""Write a Gather with a table of indices as a Gather with a list of indices, and a Reshape."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import (
    Names,
    add_initializer,
    add_node,
    constant,
    constant_target,
    dim_keys,
    input_at,
    is_op,
    turn_into_reshape,
)


def flatten_gather(node: ir.Node, names: Names) -> int:
    """Replace a Gather whose constant indices have several axes; returns 1 if it was one."""
    if not is_op(node, "Gather") or node.graph is None:
        return 0
    indices, data = constant(input_at(node, 1)), dim_keys(node.inputs[0])
    if indices is None or indices.ndim < 2 or not data:
        return 0
    axis = node.attributes.get_int("axis", 0) % len(data)
    gathered = (*data[:axis], indices.size, *data[axis + 1 :])
    target = constant_target(gathered, (*data[:axis], *indices.shape, *data[axis + 1 :]))
    if target is None:
        return 0
    positions = add_initializer(node.graph, names.fresh(f"{node.name}_positions"), indices.reshape(-1))
    inputs, attributes = [node.inputs[0], positions], [ir.AttrInt64("axis", axis)]
    flat = add_node(
        node,
        "Gather",
        inputs,
        names,
        attributes=attributes,
        name=f"{node.name}_flat",
        like=node.outputs[0],
        shape=gathered,
    )
    turn_into_reshape(node, flat, target, names)
    return 1
