"""Give chosen nodes float16 types: insert casts and convert constants; the model's inputs and outputs stay.

A strongly typed builder computes in the types that the graph states, and this pass states them.
`edgeprune.passes.tensorrt.fp16_rules` says which nodes may be chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import ModelError, PassError
from edgeprune.graph import fresh_name, naming, new_initializer, new_node, place_after
from edgeprune.passes.tensorrt.fp16_rules import half_variables

FLOAT, FLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16


def cast_fp16(model: ir.Model, nodes: Collection[str]) -> ir.Model:
    """A copy of the model in which the named nodes of the main graph compute in float16.

    Their float32 inputs and outputs become float16 if the operator allows it; an input that the operator fixes to
    float32 (the scales of Resize) stays. Graph inputs and outputs keep their names and types. All other nodes keep
    their types.

    Args:
        model: canonical, with types inferred.
        nodes: names of nodes; `edgeprune.passes.tensorrt.fp16_rules.fp16_eligible` tells which are safe.

    Raises:
        PassError: a node is unknown, it has no float16 form, or one of its constants exceeds the range of float16.
    """
    copy = graphs.clone(model)
    graph = copy.graph
    chosen = [node for node in graph if node.name in nodes]
    if unknown := sorted(set(nodes) - {str(node.name) for node in chosen}):
        raise PassError(f"cast_fp16: the model has no node {unknown[0]!r}")
    opset = graph.opset_imports.get("", 1)
    halved = {node: _halved_slots(node, opset) for node in chosen}
    for node, (_, outputs) in halved.items():
        for index in outputs:
            node.outputs[index].type = ir.TensorType(FLOAT16)  # a clone shares its type objects with the original
        _restate_type(node)
    with naming(graph):
        rewiring = _Rewiring(graph)
        for node, (inputs, _) in halved.items():
            for index in sorted(inputs):
                rewiring.read_as(node, index, FLOAT16)
        for node, (_, outputs) in halved.items():
            for value in (node.outputs[i] for i in sorted(outputs)):
                for reader, index in tuple(value.uses()):
                    if index not in halved.get(reader, ((), ()))[0]:
                        rewiring.read_as(reader, index, FLOAT)
                if value.is_graph_output():
                    rewiring.keep_output(value)
        rewiring.drop_unread()
    try:
        return graphs.infer_shapes(copy)
    except ModelError as error:
        raise PassError(f"cast_fp16: {error}") from error


def _halved_slots(node: ir.Node, opset: int) -> tuple[frozenset[int], frozenset[int]]:
    """Indices of the inputs and of the outputs that change from float32 to float16."""
    variables = half_variables(node.op_type, node.domain, opset)
    if not variables:
        raise PassError(f"cast_fp16: {node.op_type} {node.name!r} has no float16 form")
    schema = onnx.defs.get_schema(node.op_type, opset, "")

    def slots(values: Sequence[ir.Value | None], formal: Sequence[Any]) -> frozenset[int]:
        return frozenset(
            i
            for i, value in enumerate(values)
            if value is not None and value.dtype == FLOAT and formal[min(i, len(formal) - 1)].type_str in variables
        )

    return slots(node.inputs, schema.inputs), slots(node.outputs, schema.outputs)


def _restate_type(node: ir.Node) -> None:
    """Update attributes that state the type of an output."""
    if node.outputs[0].dtype != FLOAT16:
        return
    if node.op_type == "Cast":
        node.attributes["to"] = ir.AttrInt64("to", FLOAT16.value)
    elif node.op_type == "ConstantOfShape":
        stated = node.attributes.get("value")
        fill = np.zeros(1, np.float32) if stated is None else stated.as_tensor().numpy()
        node.attributes["value"] = ir.AttrTensor("value", ir.tensor(_to_half(fill, f"the fill of {node.name!r}")))


class _Rewiring:
    """The casts and converted constants of one run, each made once."""

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self.casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}
        self.twins: dict[ir.Value, ir.Value] = {}

    def read_as(self, node: ir.Node, index: int, dtype: ir.DataType) -> None:
        """Make ``node`` read its input in another type."""
        value = node.inputs[index]
        if value is not None and value.dtype != dtype:
            constant = value.is_initializer() and not value.is_graph_input()
            node.replace_input_with(index, self._twin(value) if constant else self._cast(value, dtype))

    def _twin(self, value: ir.Value) -> ir.Value:
        if value not in self.twins:
            assert value.const_value is not None
            half = _to_half(value.const_value.numpy(), f"the constant {value.name!r}")
            self.twins[value] = new_initializer(self.graph, f"{value.name}_fp16", half)
        return self.twins[value]

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        if (value, dtype) not in self.casts:
            short = "fp16" if dtype == FLOAT16 else "fp32"
            cast = new_node(self.graph, "Cast", [value], f"{value.name}_to_{short}", dtype, {"to": dtype.value})
            place_after(self.graph, value, [cast])
            self.casts[value, dtype] = cast.outputs[0]
        return self.casts[value, dtype]

    def keep_output(self, value: ir.Value) -> None:
        """Keep the name and type of a graph output that became float16, by a Cast behind it."""
        name = str(value.name)
        value.name = fresh_name(self.graph, f"{name}_fp16")
        output = self._cast(value, FLOAT)
        output.name = name
        for index, present in enumerate(self.graph.outputs):
            if present is value:
                self.graph.outputs[index] = output

    def drop_unread(self) -> None:
        """Remove float32 constants that only the float16 twin replaces now, and give their names to the twins."""
        for value, twin in self.twins.items():
            if not value.uses() and not value.is_graph_output():
                name = str(value.name)
                del self.graph.initializers[name]
                twin.name = name


def _to_half(array: NDArray[Any], what: str) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if np.isinf(half).sum() != np.isinf(array).sum():
        raise PassError(f"cast_fp16: {what} contains {np.abs(array).max():.3g}, which exceeds the range of float16")
    return half
