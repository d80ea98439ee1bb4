"""Turn ``Constant`` nodes into initializers, and take initializers off the list of inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.graph import is_op, subgraphs


def lift_constants(model: ir.Model) -> None:
    """Make every constant tensor an initializer of the graph it is in, in place.

    An initializer that is listed as an input too (every one was before IR version 4) becomes a constant: callers who
    would override a weight cannot do so in a compiled model.
    """
    model.ir_version = max(model.ir_version or 4, 4)
    kept = [value for value in model.graph.inputs if not value.is_initializer()]
    if len(kept) < len(model.graph.inputs):
        model.graph.inputs[:] = kept
    _lift(model.graph)


def _lift(graph: ir.Graph) -> None:
    for node in list(graph):
        for subgraph in subgraphs(node):
            _lift(subgraph)
        if not is_op(node, "Constant"):
            continue
        output = node.outputs[0]
        tensor = _tensor(node)
        if tensor is None or output.is_graph_output():
            continue
        name = output.name
        assert name is not None
        output.name = f"{name}__lifted"
        shape = ir.Shape(tensor.shape.numpy())
        value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=shape, const_value=tensor)
        output.replace_all_uses_with(value)
        graph.remove(node, safe=True)
        graph.register_initializer(value)


def _tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The dense tensor of a Constant node; None for strings, sparse tensors and references to function attributes."""
    name, attribute = next(iter(node.attributes.items()))
    if attribute.is_ref():
        return None
    if name == "value":
        tensor: ir.TensorProtocol = (
            attribute.value
        )  # as_tensor() checks a protocol, which takes longer than all the rest
        return None if tensor.dtype is ir.DataType.STRING else tensor
    dtypes: dict[str, Any] = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    return ir.Tensor(np.asarray(attribute.value, dtypes[name])) if name in dtypes else None
