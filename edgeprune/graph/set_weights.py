"""Weight and bias of a linear layer: read them, or set them in place without changing what other layers read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.graph.edit import input_at, new_initializer
from edgeprune.graph.linear_layers import Linear
from edgeprune.graph.model_io import clone


def has_bias(layer: Linear) -> bool:
    """Whether the layer has a bias or can get one without a new node; a MatMul without an Add behind it cannot."""
    return bool(layer.bias.value) or layer.op != "MatMul"


def layer_matrix(model: ir.Model, layer: Linear) -> NDArray[Any]:
    """W of a layer, float64, shape (groups, outputs, features)."""
    return layer.matrix(_array(model.graph.initializers[layer.weight])).astype(np.float64)


def layer_bias(model: ir.Model, layer: Linear) -> NDArray[Any]:
    """The bias in the layer's own node, float64, shape (groups, outputs): zeros if there is none or an Add adds it."""
    if not layer.bias.value or layer.op == "MatMul":
        return np.zeros((layer.groups, layer.outputs))
    bias = layer.bias.scale * _array(model.graph.initializers[layer.bias.value]).astype(np.float64)
    return np.broadcast_to(bias.reshape(layer.groups, -1), (layer.groups, layer.outputs))


def set_weights(model: ir.Model, layer: Linear, matrix: NDArray[Any], offset: NDArray[Any]) -> None:
    """Set W, shape (groups, outputs, features), and the bias of the layer's node, shape (groups, outputs).

    If a later Add adds the bias, ``offset`` is added to that bias; else it is the bias.

    Raises:
        PassError: the new values are not finite in the weight's type.
    """
    set_shared_weights(model, [layer], matrix, offset)


def set_shared_weights(model: ir.Model, layers: Sequence[Linear], matrix: NDArray[Any], offset: NDArray[Any]) -> None:
    """As :func:`set_weights`, for layers that read one weight and one bias in the same way, and go on doing so.

    Raises:
        PassError: the new values are not finite in the weight's type.
    """
    layer = layers[0]
    weight = model.graph.initializers[layer.weight]
    _replace(weight, layer.weight_from(matrix), layer)
    if not has_bias(layer):
        return
    names = {other.bias.node for other in layers}
    nodes = [node for node in model.graph if node.name in names]
    flat = offset.reshape(-1)
    dtype = _array(weight).dtype
    if not layer.bias.value:
        if flat.any():
            added = new_initializer(model.graph, f"{layer.node}_bias", (flat / layer.bias.scale).astype(dtype))
            _read_bias(nodes, layer.bias.index, added)
        return
    bias = model.graph.initializers[layer.bias.value]
    old = _array(bias)
    if layer.op == "MatMul":
        new = old.astype(np.float64) + flat.reshape(old.shape)
    else:
        new = (flat / layer.bias.scale).reshape(old.shape)
    if len(tuple(bias.uses())) > len(layers):
        bias = new_initializer(model.graph, f"{layer.node}_bias", old)
        _read_bias(nodes, layer.bias.index, bias)
    _replace(bias, new, layer)


def with_weights_of(model: ir.Model, other: ir.Model) -> ir.Model:
    """A copy of a model with the weights of another one, whose nodes are among its own; also with biases they got."""
    copy = clone(model)
    nodes = {str(node.name): node for node in copy.graph}
    added: dict[str, ir.Value] = {}
    for node in other.graph:
        mine = nodes[str(node.name)]
        for index, value in enumerate(node.inputs):
            if value is None or value.const_value is None or not value.is_initializer():
                continue
            present = input_at(mine, index)
            if present is not None and present.name == value.name:
                present.const_value = value.const_value
                continue
            name = str(value.name)
            if name not in added:
                added[name] = new_initializer(copy.graph, name, value.const_value.numpy())
            _read_bias([mine], index, added[name])
    return copy


def _read_bias(nodes: Sequence[ir.Node], index: int, bias: ir.Value) -> None:
    for node in nodes:
        if len(node.inputs) <= index:
            node.resize_inputs(index + 1)
        node.replace_input_with(index, bias)


def shift_outputs(model: ir.Model, layer: Linear, offset: NDArray[Any]) -> None:
    """Add an offset, shape (groups * outputs,), to the outputs of a layer with float weights, in place."""
    bias = layer_bias(model, layer) + offset.reshape(layer.groups, -1)
    set_weights(model, layer, layer_matrix(model, layer), bias)


def _array(value: ir.Value) -> NDArray[Any]:
    assert value.const_value is not None, value.name
    return value.const_value.numpy()


def _replace(value: ir.Value, array: NDArray[Any], layer: Linear) -> None:
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array).astype(_array(value).dtype)
    if not np.isfinite(cast).all():
        raise PassError(f"compensate: the new weights of {layer.op} {layer.node} are not finite")
    value.const_value = ir.Tensor(cast, name=value.name)
