"""Drop a residual branch, and put in its place what costs nothing, or no more than the Add behind it.

If no channel inside the branch stays, ``y = x + branch(x)`` becomes ``y = x + b``, where b is the bias of the branch's
last layer. That layer stays under its name and reads something else, so that compensation refits it to the dense sum:

* A convolution becomes a depthwise 1x1 convolution of the skip connection: scale and shift of each channel approximate
  the whole block as well as possible. It costs as much as the Add that it replaces.
* A MatMul reads what the last MatMul of the branch before reads: ``x = z + h W + c``, and now ``y = x + h V + b`` with
  V = 0 at first. Once V and b are refitted, :func:`merge_branches` adds them to W and c, so nothing of the branch is
  left (ReplaceMe, Shopkhoev et al. 2025: the linear map that replaces transformer blocks goes into the layer before).

Requires branches of `edgeprune.dependency.residual_branches.droppable`. Ensures that the sum keeps its name, shape and
type.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency import Branch
from edgeprune.graph import (
    Linear,
    constant,
    find_value,
    fresh_name,
    input_at,
    is_op,
    layer_matrix,
    linear_of,
    naming,
    new_initializer,
    only_use,
    remove_dead,
    set_weights,
    static_shape,
    weights_read_once,
)


def drop_branches(graph: ir.Graph, branches: Iterable[Branch]) -> None:
    """Drop branches, in place, with all nodes and initializers that nothing else reads."""
    nodes = {str(node.name): node for node in graph}
    place = {name: i for i, name in enumerate(nodes)}
    for branch in sorted(branches, key=lambda b: place[b.end]):  # a later one may read what replaced an earlier one
        if branch.before:
            _redirect(graph, nodes[branch.end], nodes[branch.before])
        else:
            _drop(graph, nodes[branch.end], nodes[branch.sum], find_value(graph, branch.skip), branch.between)
    remove_dead(graph)


def _redirect(graph: ir.Graph, end: ir.Node, before: ir.Node) -> None:
    """Let a MatMul read what the one before it reads, by a matrix of zeros."""
    old, source, weight = end.inputs[1], before.inputs[0], before.inputs[1]
    assert old is not None
    assert source is not None
    assert weight is not None
    features, outputs = static_shape(weight), static_shape(old)
    assert features is not None
    assert outputs is not None
    zeros = np.zeros((features[0], outputs[1]), old.dtype.numpy() if old.dtype else np.float32)
    end.replace_input_with(0, source)
    end.replace_input_with(1, new_initializer(graph, f"{end.name}_instead", zeros))


def merge_branches(model: ir.Model) -> int:
    """Add every MatMul that replaces a dropped branch to the MatMul before it, in place; returns how many.

    ``(z + (h W + c)) + (h V + b)`` becomes ``z + (h (W + V) + (c + b))``. The layer keeps the name of the first MatMul.
    Its output gets a new name, since it is another value now.
    """
    merged = 0
    for node in list(model.graph):
        if is_op(node, "Add") and (found := _repeated(model, node)) is not None:
            first, second, kept = found
            shift = constant(find_value(model.graph, second.bias.value))
            assert shift is not None
            set_weights(model, first, layer_matrix(model, first) + layer_matrix(model, second), shift.reshape(1, -1))
            (result,) = [n.outputs[0] for n in model.graph if n.name == first.bias.node]
            node.replace_input_with(0, kept)
            node.replace_input_with(1, result)
            with naming(model.graph):
                for value in (find_value(model.graph, first.output), result):
                    value.name = fresh_name(model.graph, f"{value.name}_merged")
            remove_dead(model.graph)
            merged += 1
    return merged


def _repeated(model: ir.Model, total: ir.Node) -> tuple[Linear, Linear, ir.Value] | None:
    """(the first MatMul, the second, z) of a sum whose two MatMuls read the same value."""
    last = [_biased(model, value) for value in total.inputs]
    for i, second in enumerate(last):
        source = total.inputs[1 - i]
        before = None if source is None or only_use(source) is None else source.producer()
        if second is None or before is None or not is_op(before, "Add"):
            continue
        for j, value in enumerate(before.inputs):
            first, kept = _biased(model, value), before.inputs[1 - j]
            if first is None or kept is None or first.input != second.input or first.outputs != second.outputs:
                continue
            if weights_read_once(model, [first]):  # else the sum would change another layer, too
                return first, second, kept
    return None


def _biased(model: ir.Model, value: ir.Value | None) -> Linear | None:
    """The MatMul whose result with its bias a value is, if nothing else reads it."""
    add = None if value is None or only_use(value) is None else value.producer()
    if add is None or not is_op(add, "Add"):
        return None
    for source in add.inputs:
        node = None if source is None else source.producer()
        linear = None if node is None or not is_op(node, "MatMul") else linear_of(node, model.graph)
        if linear is not None and linear.bias.value and linear.bias.node == add.name:
            return linear
    return None


def _drop(graph: ir.Graph, end: ir.Node, total: ir.Node, skip: ir.Value, between: Sequence[str]) -> None:
    """A factor and a shift for each channel of the skip connection in place of the sum, under the name of the end."""
    weight, stored = constant(end.inputs[1]), input_at(end, 2)
    assert weight is not None, end.name
    bias = stored or new_initializer(graph, f"{end.name}_shift", np.zeros(len(weight), weight.dtype))
    if between:
        vector = constant(bias)
        assert vector is not None, end.name
        bias = new_initializer(graph, f"{end.name}_shift", _constant_behind(graph, str(end.name), between, vector))
    scale = new_initializer(graph, f"{end.name}_scale", np.ones((len(weight), *[1] * (weight.ndim - 1)), weight.dtype))
    old = total.outputs[0]
    new = ir.Value(name=None, shape=old.shape, type=old.type)
    attributes = [ir.AttrInt64("group", len(weight)), ir.AttrInt64s("kernel_shape", [1] * (weight.ndim - 2))]
    node = ir.Node("", "Conv", [skip, scale, bias], attributes, outputs=[new])
    graph.insert_before(total, [node])
    old.replace_all_uses_with(new)
    names = old.name, end.name
    graph.remove([total, *(n for n in reversed(list(graph)) if n.name in between), end], safe=True)
    new.name, node.name = names


def shift_behind(model: ir.Model, branch: Branch, shift: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """What a shift of the last layer's output is where the branch is added, if that output is nothing but its bias.

    Args:
        model: with the branch.
        branch: that is dropped.
        shift: shape (channels,).
    """
    if not branch.between:
        return shift
    (end,) = [n for n in model.graph if n.name == branch.end]
    bias = constant(input_at(end, 2))
    before = np.zeros_like(shift) if bias is None else bias.astype(shift.dtype)
    ends = [_constant_behind(model.graph, branch.end, branch.between, v) for v in (before + shift, before)]
    return ends[0] - ends[1]


def _constant_behind(
    graph: ir.Graph, end: str, between: Sequence[str], vector: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """What nodes behind a convolution make of an output that is the same at all positions: shape (channels,).

    Args:
        graph: with the nodes.
        end: name of the convolution.
        between: names of the nodes behind it, in the order in which they run.
        vector: the output, shape (channels,).
    """
    from onnx.reference import ReferenceEvaluator

    nodes = {str(n.name): n for n in graph}
    first, last = nodes[end].outputs[0], nodes[between[-1]].outputs[0] if between else nodes[end].outputs[0]
    rank = len(first.shape or ())
    protos = [ir.to_proto(nodes[name]) for name in between]
    read = [v for name in between for v in nodes[name].inputs if v is not None]
    used = {str(v.name): a for v in read if (a := constant(v)) is not None}
    constants = [onnx.numpy_helper.from_array(a, name) for name, a in used.items()]
    ends = [onnx.helper.make_tensor_value_info(str(v.name), onnx.TensorProto.FLOAT, None) for v in (first, last)]
    small = onnx.helper.make_graph(protos, "behind", ends[:1], ends[1:], constants)
    opset = onnx.helper.make_opsetid("", graph.opset_imports.get("", 17))
    model = onnx.helper.make_model(small, opset_imports=[opset])
    feeds = {str(first.name): vector.astype(np.float32).reshape(1, -1, *[1] * (rank - 2))}
    (found,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(found).reshape(-1).astype(vector.dtype)
