"""Turn ``Constant`` nodes into initializers, and remove initializers from the list of inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import add_initializer, is_op, subgraphs


def lift_constants(model: ir.Model) -> None:
    """Make every constant tensor an initializer of its graph, in place.

    An initializer that is also an input (before IR version 4 all were) is no longer an input: the weights of a
    compiled model cannot be overridden.
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
        output.replace_all_uses_with(add_initializer(graph, name, tensor))
        graph.remove(node, safe=True)


def _tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """The dense tensor of a Constant node; None for strings, sparse tensors and references to function attributes."""
    name, attribute = next(iter(node.attributes.items()), ("", None))
    if attribute is None or attribute.is_ref():
        return None
    if name == "value":
        tensor: ir.TensorProtocol = attribute.value  # as_tensor() checks a protocol, which is very slow
        return None if tensor.dtype is ir.DataType.STRING else tensor
    dtypes = {"value_float": np.float32, "value_int": np.int64}
    dtype = dtypes.get(name.removesuffix("s"))
    return None if dtype is None else ir.Tensor(np.asarray(attribute.value, dtype))
