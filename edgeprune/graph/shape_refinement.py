"""Shapes that ONNX's inference cannot derive: symbolic sizes that it loses, and operators without a rule.

ONNX calculates with sizes only if they are numbers. A strided convolution, or a Reshape that merges an open batch with
other axes, gives an unknown size, and then all later sizes are unknown too.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgeprune.graph.edit import ONNX_DOMAINS, UNRESOLVED, dim_keys, own_symbol, static_shape
from edgeprune.graph.length_elements import Memo
from edgeprune.graph.length_rules import rule_for
from edgeprune.lengths import Dim

SMALL_TENSOR_BYTES = 4096
"""ONNX's inference gets the values of tensors up to this size: reshape targets, axes, scales."""

_KEEP_TYPE = ("Flatten", "GroupNormalization", "MeanVarianceNormalization", "Reshape", "Resize", "Upsample")
INFERENCE_ERRORS = (
    *(RuntimeError, ValueError, TypeError, LookupError),
    *(shape_inference.InferenceError, onnx.defs.SchemaError, onnx.checker.ValidationError),
)
"""What ONNX's inference raises for a node or a model that it does not accept."""


def refine(model: ir.Model) -> None:
    """Derive unknown lengths of shapes, in place, in one sweep in topological order.

    A length that cannot be derived, as one that the data decides, becomes a symbol of its own, so that those behind it
    are derived from it. Such symbols are made anew: what they stood for may be known now, or be gone.
    """
    memo: Memo = {}
    for value in (output for node in model.graph for output in node.outputs):
        if value.shape is not None and any(UNRESOLVED in str(d) for d in _keys(value)):
            value.shape = ir.Shape([None if UNRESOLVED in str(d) else d for d in _keys(value)])
    imports = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in model.opset_imports.items()]
    version = model.opset_imports.get("", 1)
    for node in model.graph:
        if node.domain not in ONNX_DOMAINS or all(_known(value) for value in node.outputs if value.name):
            continue
        for value, found in _loop_states(node).items():
            _improve(value, found)
        rule = rule_for(node.op_type)
        dims = rule(node, memo) if rule is not None else None
        if dims is not None:
            source = node.inputs[0]
            if node.outputs[0].type is None and source is not None and node.op_type in _KEEP_TYPE:
                node.outputs[0].type = source.type
            for value in node.outputs if node.op_type == "TopK" else node.outputs[:1]:
                _improve(value, dims)
        if not all(_known(value) for value in node.outputs if value.name):
            for value, found in _infer_node(node, version, imports).items():
                _improve(value, found)
        for value in node.outputs:
            if value.name and value.shape is not None and not _known(value):
                value.shape = ir.Shape(
                    [own_symbol(value, k) if _nameless(d) else d for k, d in enumerate(_keys(value))]
                )


def _keys(value: ir.Value) -> tuple[Dim, ...]:
    return dim_keys(value) or ()


def name_dims(value: ir.Value, info: onnx.TypeProto) -> None:
    """Write the names of open axes into a serialized type, for inputs whose axes are declared without a name."""
    for dim, key in zip(info.tensor_type.shape.dim, dim_keys(value) or (), strict=False):
        if isinstance(key, str) and not dim.HasField("dim_value"):
            dim.dim_param = key


def _known(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(d, int) or named(d.value) for d in value.shape)


def _nameless(dim: Dim) -> bool:
    """Whether a dimension is unknown, or has a name of ONNX's, which is another one at the next inference."""
    return dim is None or "unk__" in str(dim)


def named(dim: Dim) -> bool:
    """Whether a dimension is a number or has a name that inference did not make up."""
    return isinstance(dim, int) or not (_nameless(dim) or UNRESOLVED in str(dim))


def _improve(value: ir.Value, dims: tuple[Dim, ...]) -> None:
    """Fill in unknown sizes of a value; known ones are kept."""
    old = dim_keys(value) or (None,) * len(dims)
    if len(old) != len(dims):
        return
    merged = [a if named(a) or b is None or _nameless(b) else b for a, b in zip(old, dims, strict=True)]
    if value.shape is None or tuple(merged) != old:
        value.shape = ir.Shape(merged)


def _infer_node(node: ir.Node, version: int, imports: list[onnx.OperatorSetIdProto]) -> dict[ir.Value, tuple[Dim, ...]]:
    """Infer one node again, whose inputs are better known than before."""
    proto = ir.serde.serialize_node(node)
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.type is None or not value.name:
            continue
        info = ir.serde.serialize_value(value).type
        name_dims(value, info)
        types[value.name] = info
        if value.const_value is not None and value.const_value.nbytes <= SMALL_TENSOR_BYTES:
            data[value.name] = ir.serde.serialize_tensor(value.const_value)
    try:
        schema = onnx.defs.get_schema(node.op_type, version)
        found = shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports, ir_version=8)
    except INFERENCE_ERRORS:
        return {}
    shapes: dict[ir.Value, tuple[Dim, ...]] = {}
    for value in node.outputs:
        shape = ir.serde.deserialize_type_proto_for_shape(found[value.name]) if value.name in found else None
        if shape is not None:
            shapes[value] = tuple(d if isinstance(d, int) else d.value for d in shape)
    return shapes


def _loop_states(node: ir.Node) -> dict[ir.Value, tuple[Dim, ...]]:
    """Shapes of a Loop's outputs: those of its loop-carried inputs, if the body keeps the shape."""
    if node.op_type != "Loop" or "body" not in node.attributes or node.attributes["body"].is_ref():
        return {}
    body = node.attributes["body"].as_graph()
    shapes: dict[ir.Value, tuple[Dim, ...]] = {}
    for value, first, taken, given in zip(
        node.outputs, node.inputs[2:], body.inputs[2:], body.outputs[1:], strict=False
    ):
        dims = static_shape(first)
        if dims is not None and dims == dim_keys(taken) == dim_keys(given):
            shapes[value] = dims
    return shapes
