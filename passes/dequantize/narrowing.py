"""Write the float32 form of a bfloat16 model in bfloat16 again: every node in the type that it had in the user's file.

A node keeps float32 where the user's did, and where ONNX does not define its operator for bfloat16. What a rewrite has
added takes the type of what it reads.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import ModelError
from edgeprune.graph import ONNX_DOMAINS, naming, new_node, place_after, subgraphs
from edgeprune.passes.dequantize.bfloat16 import Interface, with_interface
from edgeprune.passes.dequantize.single_floats import STATED

_BFLOAT16, _FLOAT = ir.DataType.BFLOAT16, ir.DataType.FLOAT


def in_bfloat16(model: ir.Model, interface: Interface) -> ir.Model:
    """A copy of a float32 model that stores and computes in bfloat16 what the user's model does.

    With nodes that have bodies it computes in float32, and has the user's inputs and outputs.

    Args:
        model: the canonical float32 form of a bfloat16 model, or one made from it.
        interface: of the user's model.
    """
    if not interface.inside or any(True for node in model.graph for _ in subgraphs(node)):
        return with_interface(model, interface)
    copy = graphs.clone(model)
    opset = copy.graph.opset_imports.get("", 0)
    with naming(copy.graph):
        _Narrowing(copy.graph, interface, opset).run()
    try:
        copy = graphs.infer_shapes(copy)
        graphs.check(copy)
    except ModelError:
        return with_interface(model, interface)
    return copy


class _Narrowing:
    """The types of one graph, and the Casts between them, each made once."""

    def __init__(self, graph: ir.Graph, interface: Interface, opset: int) -> None:
        self.graph, self.interface, self.opset = graph, interface, opset
        self.casts: dict[ir.Value, ir.Value] = {}
        self.wanted: dict[ir.Value, list[tuple[ir.Node, int, ir.DataType]]] = {}

    def run(self) -> None:
        """Give every value its type, then put a Cast where two differ."""
        for value in self.graph.inputs:
            if value.name in self.interface.inputs:
                value.type = ir.TensorType(_BFLOAT16)
        for node in self.graph:
            self._settle(node)
        for value, uses in self.wanted.items():
            self._serve(value, uses)
        for index, value in enumerate(self.graph.outputs):
            kind = _BFLOAT16 if value.name in self.interface.outputs else _FLOAT
            if value.dtype in (_BFLOAT16, _FLOAT) and value.dtype != kind:
                name = str(value.name)
                cast = new_node(self.graph, "Cast", [value], f"{name}_cast", kind, {"to": kind.value})
                value.name = graphs.fresh_name(self.graph, f"{name}_inside")
                self.graph.append(cast)
                cast.outputs[0].name = name
                self.graph.outputs[index] = cast.outputs[0]

    def _settle(self, node: ir.Node) -> None:
        """The types of a node's outputs, and those that it wants to read."""
        reads = [(i, v) for i, v in enumerate(node.inputs) if v is not None and v.dtype in (_BFLOAT16, _FLOAT)]
        results = [(i, v) for i, v in enumerate(node.outputs) if v.dtype == _FLOAT]
        free = _free_slots(node.op_type, self.opset) if node.domain in ONNX_DOMAINS else (frozenset(), frozenset())
        narrow = self._is_narrow(node, reads, results)
        for index, value in reads:
            kind = _BFLOAT16 if narrow and _slot(index, free[0]) else _FLOAT
            self.wanted.setdefault(value, []).append((node, index, kind))
        for index, value in results if narrow else ():
            if _slot(index, free[1]):
                value.type = ir.TensorType(_BFLOAT16)
                _restate(node)

    def _is_narrow(self, node: ir.Node, reads: list[tuple[int, ir.Value]], results: list[tuple[int, ir.Value]]) -> bool:
        """Whether a node computes in bfloat16."""
        if node.name in self.interface.inside or node.name in self.interface.singles:
            return node.name in self.interface.inside
        data = [v for _, v in reads if v.const_value is None]
        return any(v.dtype == _BFLOAT16 for v in data) if data else bool(results)

    def _serve(self, value: ir.Value, uses: list[tuple[ir.Node, int, ir.DataType]]) -> None:
        kinds = {kind for _, _, kind in uses}
        if value.is_initializer() and value.const_value is not None and kinds == {_BFLOAT16}:
            array = np.asarray(value.const_value.numpy()).astype(_BFLOAT16.numpy())
            value.const_value, value.type = ir.Tensor(array, name=value.name), ir.TensorType(_BFLOAT16)
        for node, index, kind in uses:
            if kind != value.dtype:
                node.replace_input_with(index, self._cast(value, kind))

    def _cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        if value not in self.casts:
            cast = new_node(self.graph, "Cast", [value], f"{value.name}_cast", kind, {"to": kind.value})
            place_after(self.graph, value, [cast])
            self.casts[value] = cast.outputs[0]
        return self.casts[value]


@cache
def _free_slots(op: str, opset: int) -> tuple[frozenset[int], frozenset[int]]:
    """Indices of inputs and outputs that may be bfloat16, and are one type with the first; -1 stands for all after."""
    try:
        schema = onnx.defs.get_schema(op, opset, "")
    except onnx.defs.SchemaError:
        return frozenset(), frozenset()
    may = {c.type_param_str for c in schema.type_constraints if "tensor(bfloat16)" in c.allowed_type_strs}
    first = schema.outputs[0].type_str if schema.outputs else ""
    variadic = onnx.defs.OpSchema.FormalParameterOption.Variadic

    def slots(formal: list[onnx.defs.OpSchema.FormalParameter], kept: set[str]) -> frozenset[int]:
        found = {i for i, one in enumerate(formal) if one.type_str in kept}
        return frozenset(
            found | ({-1} if formal and formal[-1].option == variadic and len(formal) - 1 in found else set())
        )

    return slots(list(schema.inputs), may), slots(list(schema.outputs), may & {first})


def _slot(index: int, free: frozenset[int]) -> bool:
    return index in free or -1 in free


def _restate(node: ir.Node) -> None:
    """Attributes that state the type of the output."""
    stated = node.attributes.get(STATED.get(node.op_type, ""))
    if stated is not None and stated.as_int() == _FLOAT.value:
        node.attributes[stated.name] = ir.AttrInt64(stated.name, _BFLOAT16.value)
    for attribute in list(node.attributes.values()):
        if attribute.type is ir.AttributeType.TENSOR and attribute.as_tensor().dtype == _FLOAT:
            array = np.asarray(attribute.as_tensor().numpy()).astype(_BFLOAT16.numpy())
            node.attributes[attribute.name] = ir.AttrTensor(attribute.name, ir.Tensor(array))
