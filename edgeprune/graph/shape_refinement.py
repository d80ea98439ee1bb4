"""Shapes that ONNX's inference cannot derive: symbolic sizes that it loses, and operators without a rule.

ONNX multiplies sizes only if they are numbers. A Resize by 1 along a symbolic batch, or a Reshape that merges it with
other axes, gives an unknown size, and then all later sizes are unknown too.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir
from onnx import shape_inference

from edgeprune.graph.edit import ONNX_DOMAINS, dim_keys, input_at, static_shape
from edgeprune.graph.reshape_axes import Dim, monomial, quotient

SMALL_TENSOR_BYTES = 4096
"""ONNX's inference gets the values of tensors up to this size: reshape targets, axes, scales."""

INFERENCE_ERRORS = (
    *(RuntimeError, ValueError, TypeError, LookupError),
    *(shape_inference.InferenceError, onnx.defs.SchemaError, onnx.checker.ValidationError),
)
"""What ONNX's inference raises for a node or a model that it does not accept."""


def refine(model: ir.Model) -> None:
    """Derive unknown sizes of shapes, in place, in one sweep in topological order."""
    improved: set[ir.Value] = set()
    imports = [onnx.OperatorSetIdProto(domain=d, version=v) for d, v in model.opset_imports.items()]
    version = model.opset_imports.get("", 1)
    for node in model.graph:
        if node.domain not in ONNX_DOMAINS or all(_known(value) for value in node.outputs if value.name):
            continue
        for value, found in _loop_states(node).items():
            _improve(value, found, improved)
        rule = _RULES.get(node.op_type)
        dims = rule(node) if rule is not None else None
        if dims is not None:
            source = node.inputs[0]
            if node.outputs[0].type is None and source is not None:
                node.outputs[0].type = source.type  # none of these operators changes it
            _improve(node.outputs[0], dims, improved)
        elif any(value in improved for value in node.inputs):
            for value, found in _infer_node(node, version, imports).items():
                _improve(value, found, improved)


def _known(value: ir.Value) -> bool:
    return value.shape is not None and all(isinstance(d, int) or named(d.value) for d in value.shape)


def named(dim: Dim) -> bool:
    """Whether a dimension is a number or has a name that inference did not make up."""
    return isinstance(dim, int) or (dim is not None and not dim.startswith("unk__"))


def _improve(value: ir.Value, dims: tuple[Dim, ...], improved: set[ir.Value]) -> None:
    """Fill in unknown sizes of a value; known ones are kept."""
    old = dim_keys(value) or (None,) * len(dims)
    if len(old) != len(dims):
        return
    merged = [a if named(a) or not named(b) else b for a, b in zip(old, dims, strict=True)]
    if value.shape is None or tuple(merged) != old:
        value.shape = ir.Shape(merged)
        improved.add(value)


def _infer_node(node: ir.Node, version: int, imports: list[onnx.OperatorSetIdProto]) -> dict[ir.Value, tuple[Dim, ...]]:
    """Infer one node again, whose inputs are better known than before."""
    proto = ir.serde.serialize_node(node)
    types, data = {}, {}
    for value in node.inputs:
        if value is None or value.type is None or not value.name:
            continue
        info = ir.serde.serialize_value(value).type
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


def _constants(value: ir.Value | None) -> list[float] | None:
    if value is None or value.const_value is None or not value.is_initializer():
        return None
    return [float(x) for x in value.const_value.numpy().reshape(-1)]


def _reshape(node: ir.Node) -> tuple[Dim, ...] | None:
    """An unknown target still gives the rank."""
    source, target = dim_keys(node.inputs[0]), _constants(input_at(node, 1))
    if target is None and len(node.inputs) > 1:
        length = dim_keys(node.inputs[1]) or ()
        return (None,) * length[0] if len(length) == 1 and isinstance(length[0], int) else None
    if source is None or target is None or node.attributes.get_int("allowzero"):
        return None
    dims: list[Dim] = [source[i] if d == 0 and i < len(source) else int(d) for i, d in enumerate(target)]
    if -1 in dims:
        # Kept axes cancel, whether known or not.
        kept = [i for i, d in enumerate(target) if d == 0]
        whole = monomial([d for i, d in enumerate(source) if i not in kept])
        others = monomial([d for i, d in enumerate(dims) if i not in kept and d != -1])
        dims[dims.index(-1)] = None if whole is None or others is None else quotient(whole, others)
    return tuple(dims)


def _flatten(node: ir.Node) -> tuple[Dim, ...] | None:
    source = dim_keys(node.inputs[0])
    if source is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    halves = monomial(source[:axis]), monomial(source[axis:])
    one = (1, ())
    return tuple(None if half is None else quotient(half, one) for half in halves)


def _same(node: ir.Node) -> tuple[Dim, ...] | None:
    """ONNX has no inference for some normalizations."""
    return dim_keys(node.inputs[0])


def _resize(node: ir.Node) -> tuple[Dim, ...] | None:
    """An axis that is scaled by 1 keeps its symbol; another symbolic axis stays unknown."""
    source = dim_keys(node.inputs[0])
    scales = _constants(node.inputs[-1]) if len(node.inputs) in (2, 3) else None
    if source is None or scales is None or len(scales) != len(source):
        return None
    return tuple(
        d if s == 1 else int(d * s) if isinstance(d, int) else None for d, s in zip(source, scales, strict=True)
    )


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


_RULES: dict[str, Callable[[ir.Node], tuple[Dim, ...] | None]] = {
    "Flatten": _flatten,
    "GroupNormalization": _same,
    "MeanVarianceNormalization": _same,
    "Reshape": _reshape,
    "Resize": _resize,
    "Upsample": _resize,
}
