"""Let a Gather pick by a list of positions, and a Reshape lay them out: a table of indices is a list too."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    Names,
    add_initializer,
    add_node,
    constant,
    constant_target,
    dim_keys,
    input_at,
    int_attribute,
    is_op,
)


def flatten_gather(node: ir.Node, names: Names) -> int:
    """Write a Gather by constant indices of several axes as one by a list, and a Reshape; returns 1 if it was one."""
    if not is_op(node, "Gather") or node.graph is None:
        return 0
    indices, data = constant(input_at(node, 1)), dim_keys(node.inputs[0])
    if indices is None or indices.ndim < 2 or not data:
        return 0
    axis = int_attribute(node, "axis", 0) % len(data)
    picked = (*data[:axis], indices.size, *data[axis + 1 :])
    target = constant_target(picked, (*data[:axis], *indices.shape, *data[axis + 1 :]))
    if target is None:
        return 0
    positions = add_initializer(node.graph, names.fresh(f"{node.name}_positions"), indices.reshape(-1))
    gather = add_node(
        node,
        "Gather",
        [node.inputs[0], positions],
        names,
        attributes=[ir.AttrInt64("axis", axis)],
        name=f"{node.name}_flat",
    )
    gather.outputs[0].type, gather.outputs[0].shape = node.outputs[0].type, ir.Shape(picked)
    shape = add_initializer(node.graph, names.fresh(f"{node.name}_target"), np.asarray(target, np.int64))
    node.op_type = "Reshape"
    node.attributes.clear()
    node.replace_input_with(0, gather.outputs[0])
    node.replace_input_with(1, shape)
    return 1
