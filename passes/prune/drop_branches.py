"""Drop a residual branch: a scale and a shift per channel of the skip connection replace the Add.

If no channel inside the branch stays, ``y = x + branch(x)`` becomes ``y = x + b``, where b is the bias of the branch's
last convolution. It is written as a depthwise 1x1 convolution with one factor and one bias per channel, under the name
of that last convolution. So compensation refits it: scale and shift then approximate the whole block as well as
possible. It costs as much as the Add that it replaces.

Requires branches of `edgeprune.dependency.residual_branches.droppable`. Ensures that the sum keeps its name, shape and
type.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from edgeprune.dependency import Branch
from edgeprune.graph import constant, find_value, new_initializer, remove_dead


def drop_branches(graph: ir.Graph, branches: Iterable[Branch]) -> None:
    """Drop branches, in place, with all nodes and initializers that nothing else reads."""
    nodes = {str(node.name): node for node in graph}
    for branch in branches:
        _drop(graph, nodes[branch.end], nodes[branch.sum], find_value(graph, branch.skip))
    remove_dead(graph)


def _drop(graph: ir.Graph, end: ir.Node, total: ir.Node, skip: ir.Value) -> None:
    weight = constant(end.inputs[1])
    assert weight is not None, end.name
    bias = end.inputs[2] if len(end.inputs) > 2 else None
    if bias is None:
        bias = new_initializer(graph, f"{end.name}_shift", np.zeros(len(weight), weight.dtype))
    scale = new_initializer(graph, f"{end.name}_scale", np.ones((len(weight), *[1] * (weight.ndim - 1)), weight.dtype))
    old = total.outputs[0]
    new = ir.Value(name=None, shape=old.shape, type=old.type)
    attributes = [ir.AttrInt64("group", len(weight)), ir.AttrInt64s("kernel_shape", [1] * (weight.ndim - 2))]
    node = ir.Node("", "Conv", [skip, scale, bias], attributes, outputs=[new])
    graph.insert_before(total, [node])
    old.replace_all_uses_with(new)
    names = old.name, end.name
    graph.remove([total, end], safe=True)
    new.name, node.name = names
