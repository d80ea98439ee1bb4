"""Write a model of float16, bfloat16 or float64 with float32 inside; its inputs and outputs keep their types."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import ONNX_DOMAINS, naming, new_node, place_after, remove_dead, subgraphs

OTHER_FLOATS = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
STATED = {"Cast": "to", "EyeLike": "dtype", "RandomNormal": "dtype", "RandomUniform": "dtype"} | {
    "RandomNormalLike": "dtype",
    "RandomUniformLike": "dtype",
    "Bernoulli": "dtype",
    "QuantizeLinear": "precision",
    "DequantizeLinear": "output_dtype",
}
"""Operator -> its attribute that names the type of the result, or of the calculation."""


def has_other_floats(model: ir.Model) -> bool:
    """Whether weights of two or more axes have another float type than float32: what is computed is not float32."""
    return any(
        value.dtype in OTHER_FLOATS and value.shape is not None and len(value.shape) > 1
        for graph in model.graphs()
        for value in graph.initializers.values()
    )


def is_double(model: ir.Model) -> bool:
    """Whether any constant of the main graph is float64."""
    return any(value.dtype == ir.DataType.DOUBLE for value in model.graph.initializers.values())


def as_float32(model: ir.Model) -> ir.Model | None:
    """A copy that computes in float32, with a Cast at every input and output of another float type.

    None if an operator of another domain reads or writes such a type: nobody knows what else it takes.

    Args:
        model: without functions, its constants initializers, its types inferred.
    """
    copy = graphs.clone(model)
    graph = copy.graph
    for node in graph.all_nodes():
        values = [v for v in (*node.inputs, *node.outputs) if v is not None]
        if node.domain not in ONNX_DOMAINS and any(v.dtype in OTHER_FLOATS for v in values):
            return None
    inputs = {v: v.type for v in graph.inputs if v.dtype in OTHER_FLOATS}
    outputs = [(k, v, v.type) for k, v in enumerate(graph.outputs) if v.dtype in OTHER_FLOATS]
    for each in _graphs(graph):
        _retype(each)
    with naming(graph):
        for index, value, dtype in outputs:
            _cast_output(graph, index, value, dtype)
        for value, dtype in inputs.items():
            value.type = dtype
            uses = tuple(value.uses())
            cast = new_node(graph, "Cast", [value], f"{value.name}_to_float32", ir.DataType.FLOAT,
                            {"to": ir.DataType.FLOAT.value})  # fmt: skip
            place_after(graph, value, [cast])
            for use in uses:
                use.node.replace_input_with(use.idx, cast.outputs[0])
    remove_dead(graph)
    return graphs.infer_shapes(copy)


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    for node in graph:
        for inner in subgraphs(node):
            yield from _graphs(inner)


def _retype(graph: ir.Graph) -> None:
    """Every value, constant and stated type of other floats becomes float32."""
    single = ir.TensorType(ir.DataType.FLOAT)
    for value in graph.initializers.values():
        if value.dtype in OTHER_FLOATS and value.const_value is not None:
            array = np.asarray(value.const_value.numpy()).astype(np.float32)
            value.const_value, value.type = ir.Tensor(array, name=value.name), single
    for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
        if value.dtype in OTHER_FLOATS:
            value.type = single
    for node in graph:
        stated = node.attributes.get(STATED.get(node.op_type, ""))
        if stated is not None and not stated.is_ref() and ir.DataType(stated.as_int()) in OTHER_FLOATS:
            node.attributes[stated.name] = ir.AttrInt64(stated.name, ir.DataType.FLOAT.value)
        for attribute in list(node.attributes.values()):
            if attribute.type is ir.AttributeType.TENSOR and attribute.as_tensor().dtype in OTHER_FLOATS:
                tensor = ir.Tensor(np.asarray(attribute.as_tensor().numpy()).astype(np.float32))
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, tensor)


def _cast_output(graph: ir.Graph, index: int, value: ir.Value, dtype: ir.TypeProtocol | None) -> None:
    """An output of the graph keeps its name and type, by a Cast behind what computes it."""
    assert isinstance(dtype, ir.TensorType)
    name = str(value.name)
    if not value.is_graph_input() and not value.is_initializer():
        value.name = graphs.fresh_name(graph, f"{name}_float32")
    cast = new_node(graph, "Cast", [value], f"{name}_cast", dtype.dtype, {"to": dtype.dtype.value})
    graph.append(cast)
    cast.outputs[0].name = name
    graph.outputs[index] = cast.outputs[0]
