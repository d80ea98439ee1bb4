"""Convert a model of any size to another opset.

ONNX's version converter does the work on a copy of the graph without its large weights, which are put back afterwards.
If the operators of the model differ only in the types that they accept, only the opset number changes.
"""

from __future__ import annotations

import onnx
import onnx.defs
import onnx.version_converter
import onnx_ir as ir

from edgeprune.errors import ModelError, PassError
from edgeprune.graph import model_io as graphs
from edgeprune.graph.edit import ONNX_DOMAINS, fresh_name, has_subgraph, naming
from edgeprune.graph.shape_inference import lite_proto
from edgeprune.support import first_sentence

_IR_VERSION_OF_OPSET = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11, 24: 12}

_WIDENED = frozenset(
    {"Add", "Cast", "ConstantOfShape", "Conv", "ConvTranspose", "DequantizeLinear", "Div", "Equal", "Flatten"}
    | {"GlobalAveragePool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Mul", "QuantizeLinear"}
    | {"Relu", "Reshape", "Shape", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"}
)
"""Operators whose versions from opset 13 to 24 differ only in types, and in optional attributes and inputs."""


def convert_opset(model: ir.Model, version: int) -> ir.Model:
    """The same computation in opset ``version`` of the default domain; nodes and values keep their names.

    Args:
        model: not changed; no model-local functions.
        version: 13 to 24, newer or older than the model's own.

    Raises:
        PassError: an operator has no equivalent in that version, or is of a domain that ONNX does not know while other
            operators must be converted.
    """
    present = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx", 0))
    if present == version:
        return graphs.clone(model)
    if not 13 <= version <= 24:
        raise PassError(f"convert_opset: opset {version} is not between 13 and 24")
    if model.functions:
        raise PassError("convert_opset: the model has functions, which must be inlined first")
    if version > present and all(_is_same(node, present, version) for node in model.graph):
        result = graphs.clone(model)
        result.graph.opset_imports[""] = version
        result.ir_version = _ir_version(model, version)
        return result
    try:
        converted = onnx.version_converter.convert_version(lite_proto(model), version)
        result = ir.from_proto(converted)
    except (RuntimeError, ValueError, TypeError) as error:
        raise PassError(f"convert_opset: opset {present} to {version}: {_first_line(error)}") from error
    _restore_weights(model, result)
    _name_new_nodes(result)
    marks = {str(node.name): node.meta for node in model.graph}
    for node in result.graph:
        node.meta.update(marks.get(str(node.name), {}))
    for name, value in model.graph.initializers.items():
        if name in result.graph.initializers:
            result.graph.initializers[name].meta.update(value.meta)
    result.ir_version = _ir_version(model, version)
    result.metadata_props.update(model.metadata_props)
    result.graph.meta.update(model.graph.meta)
    try:
        graphs.check(result)
        return graphs.infer_shapes(result)
    except ModelError as error:
        raise PassError(f"convert_opset: opset {present} to {version}: {error}") from error


def _is_same(node: ir.Node, present: int, version: int) -> bool:
    """Whether a node means the same, unchanged, in a newer version."""
    if node.domain not in ONNX_DOMAINS:
        return True
    if has_subgraph(node) or present < 13:
        return False
    try:
        old, new = (onnx.defs.get_schema(node.op_type, v).since_version for v in (present, version))
    except onnx.defs.SchemaError:
        return False
    return old == new or node.op_type in _WIDENED


def _ir_version(model: ir.Model, version: int) -> int:
    return max(8, min(model.ir_version or 8, 10), _IR_VERSION_OF_OPSET[version])


def _restore_weights(model: ir.Model, result: ir.Model) -> None:
    """Turn the graph inputs that replaced large weights into these weights again."""
    graph = result.graph
    wanted = {value.name for value in model.graph.inputs}
    weights = [value for value in graph.inputs if value.name not in wanted]
    graph.inputs[:] = [value for value in graph.inputs if value.name in wanted]
    for value in weights:
        source = model.graph.initializers[str(value.name)]
        value.const_value, value.type, value.shape = source.const_value, source.type, source.shape
        graph.register_initializer(value)


def _name_new_nodes(model: ir.Model) -> None:
    """Name the nodes that the converter added; it leaves them without a name."""
    seen: set[str] = set()
    with naming(model.graph):
        for node in model.graph:
            if not node.name or node.name in seen:
                node.name = fresh_name(model.graph, f"{node.op_type}_{node.outputs[0].name}")
            seen.add(node.name)


def _first_line(error: Exception) -> str:
    """The converter's message, without the source position before it."""
    return first_sentence(error).rsplit("failed: ", 1)[-1].replace("Version $", "opset ").rstrip(".")
