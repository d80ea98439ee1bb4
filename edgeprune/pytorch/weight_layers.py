"""The layers of a canonical model with weights: node, weight, bias, and the axis of the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.pytorch.weight_form import Layer

_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}


def array_of(value: ir.Value) -> NDArray[Any]:
    """The values of an initializer."""
    assert value.const_value is not None, value.name
    return value.const_value.numpy()


def float_initializers(model: ir.Model) -> dict[str, NDArray[Any]]:
    """Floating-point initializers: name -> values."""
    found = {name: array_of(value) for name, value in model.graph.initializers.items()}
    return {name: array for name, array in found.items() if np.issubdtype(array.dtype, np.floating)}


def layers_of(model: ir.Model) -> Iterator[Layer]:
    """Linear layers with constant weights, in graph order."""
    for node in model.graph:
        if node.op_type not in (*_OUTPUT_AXIS, "Gemm") or len(node.inputs) < 2:
            continue
        weight = _initializer(node, 1)
        if weight is None or weight.shape is None or len(weight.shape) < 2:
            continue
        bias = _added(node) if node.op_type == "MatMul" else _initializer(node, 2)
        axis = _OUTPUT_AXIS.get(node.op_type, 1)
        if node.op_type == "Gemm" and node.attributes.get_int("transB"):
            axis = 0
        yield Layer(str(node.name), str(weight.name), None if bias is None else str(bias.name), axis, hint_of(node))


def _initializer(node: ir.Node, index: int) -> ir.Value | None:
    value = node.inputs[index] if index < len(node.inputs) else None
    return value if value is not None and value.is_initializer() else None


def _added(matmul: ir.Node) -> ir.Value | None:
    """The vector that an Add after a MatMul adds, if the Add is the only reader."""
    uses = list(matmul.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add":
        return None
    other = _initializer(uses[0].node, 1 - uses[0].idx)
    return other if other is not None and other.shape is not None and len(other.shape) == 1 else None


def hint_of(node: ir.Node) -> str:
    """The module in a node's name: ``/layer1/conv1/Conv`` belongs to ``layer1.conv1.``, others to an empty text.

    A member of a Sequential or a ModuleList repeats its container: ``/layer1/layer1.0/conv1/Conv``.
    """
    parts = str(node.name).split("/")
    if len(parts) < 3 or parts[0]:
        return ""
    path: list[str] = []
    for part in parts[1:-1]:
        *container, member = part.split(".")
        path.append(member if container and path[-len(container) :] == container else part)
    return ".".join(path) + "."
