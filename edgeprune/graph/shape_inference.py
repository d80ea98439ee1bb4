"""Shape inference by ONNX's C++ code, on a copy of the model without its weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator

import onnx
import onnx_ir as ir

from edgeprune.graph.edit import ONNX_DOMAINS, has_subgraph, static_shape
from edgeprune.graph.shape_refinement import INFERENCE_ERRORS, SMALL_TENSOR_BYTES, name_dims, named, refine
from edgeprune.support import first_sentence

_FALSE_ALARMS = (
    "(op_type:Constant)",
    "Input shape must have either [C] or [1,C] dimensions",
    "expected to have type but instead is null",
)
"""ONNX says so of valid nodes: a MeanVarianceNormalization without axes, a StringNormalizer of open size, nodes behind
an operator whose result it does not infer, as a GroupNormalization."""


def lite_proto(model: ir.Model, *, declared: frozenset[ir.Value] | None = None) -> onnx.ModelProto:
    """Serialize a model without large weights: they become graph inputs of the same name, type and shape.

    Args:
        model: not changed.
        declared: computed values that keep their type and shape; by default all that have them.
    """
    proto = _empty_proto(model)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    graph, source = proto.graph, model.graph
    graph.name = source.name or "graph"
    for value in source.inputs:
        info = graph.input.add()
        ir.serde.serialize_value_into(info, value)
        name_dims(value, info.type)
    inputs = {value.name for value in source.inputs}
    for value in source.initializers.values():
        tensor = value.const_value
        if tensor is not None and (tensor.nbytes <= SMALL_TENSOR_BYTES or value.name not in inputs):
            _add_constant(graph, value.name or "", tensor)
    for node in source:
        if not _add_node(graph, node):
            continue
        for value in node.outputs:
            if value.is_graph_output() or not value.name or (value.type is None and value.shape is None):
                continue
            if declared is None or value in declared:
                ir.serde.serialize_value_into(graph.value_info.add(), value)
    for value in source.outputs:
        info = graph.output.add()
        ir.serde.serialize_value_into(info, value)
        is_tensor = info.type.HasField("tensor_type")
        if is_tensor and declared is not None and value not in declared and value.producer() is not None:
            info.type.tensor_type.ClearField("shape")
    return proto


def _empty_proto(model: ir.Model) -> onnx.ModelProto:
    proto = onnx.ModelProto(ir_version=max(model.ir_version or 4, 4))
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    return proto


def _add_node(graph: onnx.GraphProto, node: ir.Node) -> bool:
    """Add a node, or for a large Constant an input of its type and shape; returns whether it was the node."""
    large = _large_constant(node)
    if large is not None:
        _add_input(graph, node.outputs[0].name or "", large)
        return False
    ir.serde.serialize_node_into(graph.node.add(), node)
    return True


def _add_input(graph: onnx.GraphProto, name: str, tensor: ir.TensorProtocol) -> None:
    info = graph.input.add(name=name)
    info.type.tensor_type.elem_type = tensor.dtype.value
    info.type.tensor_type.shape.dim.extend(
        onnx.TensorShapeProto.Dimension(dim_value=int(d)) for d in tensor.shape.numpy()
    )


def _large_constant(node: ir.Node) -> ir.TensorProtocol | None:
    """The tensor of a Constant node that is too large to be copied, unless it is an output of the graph."""
    value = node.attributes.get("value") if node.op_type == "Constant" and node.domain in ONNX_DOMAINS else None
    if value is None or value.is_ref() or node.outputs[0].is_graph_output():
        return None
    tensor: ir.TensorProtocol = value.value
    return tensor if tensor.nbytes > SMALL_TENSOR_BYTES else None


def contradiction(model: ir.Model) -> str:
    """What ONNX's inference says of a node that does not fit its operands; empty if all do."""
    try:
        onnx.shape_inference.infer_shapes(lite_proto(model, declared=frozenset()), strict_mode=True, data_prop=True)
    except INFERENCE_ERRORS as error:
        text = first_sentence(error)
        if any(false in text for false in _FALSE_ALARMS):
            return ""
        found = re.search(r"\(op_type:(\w+)(?:, node name: (.*?))?\): (.*)", text)
        said = text if found is None else f"{found[1]} {found[2] or ''}: {found[3]}"
        return re.sub(r"\[\w+Error\] |(?<= ):", "", said).replace(" : ", ": ")
    return ""


def infer(model: ir.Model, *, keep: bool) -> None:
    """Set type and shape of every computed value; see :func:`edgeprune.graph.infer_shapes`."""
    before = {value: value.shape for value in computed_values(model.graph)}
    custom = frozenset(
        value
        for node in model.graph
        for value in node.outputs
        if node.domain not in ONNX_DOMAINS and value.shape is not None
    )
    if not _infer_once(model, custom):
        return
    refine(model)
    seeds = frozenset(value for value in before if keep and _knows_more(before[value], value.shape))
    if seeds:
        # Declared shapes of values that cannot be derived help to derive the values after them.
        for value in seeds:
            value.shape = before[value]
        _infer_once(model, custom | seeds)
        refine(model)


def complete(model: ir.Model) -> None:
    """Derive unknown shapes from known ones; see :func:`edgeprune.graph.complete_shapes`.

    ONNX gets only the nodes with unknown shapes, and the arithmetic on lengths before them, whose values it propagates.
    """
    wanted = [node for node in model.graph if not all(_complete(value) for value in node.outputs if value.name)]
    if any(has_subgraph(node) for node in wanted):
        infer(model, keep=True)
        return
    if wanted:
        incomplete = set(wanted)
        shown = [node for node in model.graph if node in incomplete or _is_length_arithmetic(node)]
        inferred = onnx.shape_inference.infer_shapes(_excerpt(model, shown), check_type=False, data_prop=True)
        types = {info.name: info.type for info in inferred.graph.value_info}
        for value in (value for node in wanted for value in node.outputs if value.name):
            found = types.get(value.name or "")
            if found is not None:
                value.type = ir.serde.deserialize_type_proto_for_type(found) or value.type
            value.shape = _merged(value.shape, ir.serde.deserialize_type_proto_for_shape(found) if found else None)
        refine(model)


def _merged(old: ir.Shape | None, new: ir.Shape | None) -> ir.Shape | None:
    """The derived sizes, else the old ones; names that inference made up are dropped."""
    if new is None:
        return None if old is None else ir.Shape([d if _named(d) else None for d in old])
    if old is None or len(old) != len(new):
        return new
    return ir.Shape([b if _named(b) or not _named(a) else a for a, b in zip(old, new, strict=True)])


_MOST_LENGTHS = 64
"""A longer vector of integers does not consist of lengths."""


def _complete(value: ir.Value) -> bool:
    return value.type is not None and static_shape(value) is not None


def _is_length_arithmetic(node: ir.Node) -> bool:
    """Whether all outputs of a node are integers or short vectors of integers."""
    return all(
        value.dtype in (ir.DataType.INT64, ir.DataType.INT32)
        and (shape := static_shape(value)) is not None
        and len(shape) <= 1
        and math.prod(shape) <= _MOST_LENGTHS
        for value in node.outputs
        if value.name
    )


def _excerpt(model: ir.Model, nodes: list[ir.Node]) -> onnx.ModelProto:
    """A model of some nodes in their order; its inputs are what they read from other nodes, with known shapes."""
    proto = _empty_proto(model)
    graph = proto.graph
    graph.name = "excerpt"
    made: set[ir.Value] = set()
    for node in nodes:
        for value in node.inputs:
            if value is None or value in made:
                continue
            made.add(value)
            tensor = value.const_value if value.is_initializer() else None
            if tensor is None:
                ir.serde.serialize_value_into(graph.input.add(), value)
            else:
                _add_constant(graph, value.name or "", tensor)
        _add_node(graph, node)
        made.update(node.outputs)
    return proto


def _add_constant(graph: onnx.GraphProto, name: str, tensor: ir.TensorProtocol) -> None:
    """A tensor with its values if it is small, else an input of its type and shape."""
    if tensor.nbytes > SMALL_TENSOR_BYTES:
        _add_input(graph, name, tensor)
        return
    plain = ir.Tensor(tensor.numpy(), dtype=tensor.dtype) if isinstance(tensor, ir.ExternalTensor) else tensor
    ir.serde.serialize_tensor_into(graph.initializer.add(), from_=plain)
    graph.initializer[-1].name = name


def computed_values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The named outputs of all nodes of a graph, without subgraphs."""
    for node in graph:
        for value in node.outputs:
            if value.name:
                yield value


def _knows_more(old: ir.Shape | None, new: ir.Shape | None) -> bool:
    if old is None:
        return False
    if new is None:
        return True
    return len(old) == len(new) and any(_named(a) and not _named(b) for a, b in zip(old, new, strict=True))


def _named(dim: int | ir.SymbolicDim) -> bool:
    return isinstance(dim, int) or named(dim.value)


def _infer_once(model: ir.Model, declared: frozenset[ir.Value]) -> list[ir.Value]:
    """Infer, write the results back, and return the values of the main graph whose shapes are not fully known."""
    inferred = onnx.shape_inference.infer_shapes(
        lite_proto(model, declared=declared), check_type=False, strict_mode=False, data_prop=True
    )
    shown = []
    for node in model.graph:
        large = _large_constant(node)
        if large is None:
            shown.append(node)
        else:
            node.outputs[0].type, node.outputs[0].shape = ir.TensorType(large.dtype), ir.Shape(large.shape.numpy())
    _write_back(shown, inferred.graph, declared)
    return [
        value
        for value in computed_values(model.graph)
        if value not in declared and (value.shape is None or any(not isinstance(d, int) for d in value.shape))
    ]


def _write_back(nodes: Iterable[ir.Node], inferred: onnx.GraphProto, declared: frozenset[ir.Value]) -> None:
    types = {info.name: info.type for info in inferred.value_info}
    types.update((info.name, info.type) for info in inferred.output)
    for node, node_proto in zip(nodes, inferred.node, strict=True):
        for value in node.outputs:
            if not value.name:
                continue
            found = types.get(value.name)
            if found is None:
                if value not in declared:
                    value.shape = None
                continue
            kind = ir.serde.deserialize_type_proto_for_type(found)
            if kind is not None:
                value.type = kind
            value.shape = ir.serde.deserialize_type_proto_for_shape(found)
        for attribute in node_proto.attribute:
            own = node.attributes.get(attribute.name)
            if own is None or own.is_ref():
                continue
            if attribute.HasField("g"):
                _write_back(own.as_graph(), attribute.g, declared)
            for subgraph, subproto in zip(own.as_graphs() if attribute.graphs else (), attribute.graphs, strict=True):
                _write_back(subgraph, subproto, declared)
