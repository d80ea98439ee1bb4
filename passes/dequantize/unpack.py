"""Write a quantized model with float operators: weights in float, activations behind Q/DQ pairs.

What a runtime computes with integers becomes the float operator with its operands dequantized and its result quantized
and dequantized again: the same numbers but for the rounding of sums. Integers that are only moved become moved floats.
A weight keeps the values that it was rounded to. Inputs and outputs of the graph keep their types.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import constant, input_at, is_op, naming, new_initializer, new_node, remove_dead, replace_value
from edgeprune.passes.dequantize.lifting import INTEGERS, LiftError, Lifting, as_quantized, dequantized
from edgeprune.passes.dequantize.operators import (
    MOVERS,
    QOPERATORS,
    lift_clip,
    lift_float_product,
    lift_integer_product,
    lift_mover,
)

QUANTIZED_OPS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
    | {"DynamicQuantizeMatMul", "MatMulIntegerToFloat", *QOPERATORS}
)
_PAIRS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})


def is_quantized(model: ir.Model) -> bool:
    """Whether the main graph has any operator of a quantized format."""
    return any(node.op_type in QUANTIZED_OPS and node.domain in _DOMAINS for node in model.graph)


def has_other_formats(model: ir.Model) -> bool:
    """Whether the main graph is quantized in another form than Q/DQ pairs."""
    return any(node.op_type in QUANTIZED_OPS - _PAIRS and node.domain in _DOMAINS for node in model.graph)


def unpack(model: ir.Model) -> ir.Model:
    """A copy of a canonical model in which only Q/DQ pairs of activations are left of the quantization.

    Raises:
        LiftError: a node has no float form; the text names it.
    """
    copy = graphs.clone(model)
    graph = copy.graph
    with naming(graph):
        lift = Lifting(graph)
        for node in list(graph):
            _lift(lift, node)
        for value in list(graph.outputs):
            if value in lift.floats and not is_op(value.producer(), "QuantizeLinear"):
                _keep_output(lift, value)
    remove_dead(graph)
    for node in graph:
        if node.op_type in QUANTIZED_OPS - _PAIRS:
            raise LiftError(f"{node.op_type} {node.name!r} has a result that is read as integers")
    if not any(node.domain == "com.microsoft" for node in graph.all_nodes()):
        graph.opset_imports.pop("com.microsoft", None)
    return graphs.infer_shapes(copy)


def _lift(lift: Lifting, node: ir.Node) -> None:
    if node.domain not in _DOMAINS:
        return
    if node.op_type == "QuantizeLinear":
        _quantize(lift, node)
    elif node.op_type == "DequantizeLinear":
        _dequantize(lift, node)
    elif node.op_type == "DynamicQuantizeLinear":
        source = node.inputs[0]
        assert source is not None
        lift.moving[node.outputs[0]], lift.scales[node.outputs[0]] = source, node.outputs[1]
    elif node.op_type in ("ConvInteger", "MatMulInteger"):
        lift_integer_product(lift, node)
    elif node.op_type in ("DynamicQuantizeMatMul", "MatMulIntegerToFloat"):
        lift_float_product(lift, node)
    elif node.op_type in QOPERATORS:
        QOPERATORS[node.op_type](lift, node)
    elif any(lift.knows(value) for value in node.inputs):
        if is_op(node, "Clip"):
            lift_clip(lift, node)
        elif is_op(node, *MOVERS):
            lift_mover(lift, node)
        elif not is_op(node, "Shape", "Size"):
            raise LiftError(f"{node.op_type} {node.name!r} computes with quantized values")


def _quantize(lift: Lifting, node: ir.Node) -> None:
    source, output = node.inputs[0], node.outputs[0]
    grid, axis = lift.grid(node, 1, 2), node.attributes.get_int("axis", 1)
    block: int = node.attributes.get_int("block_size", 0)
    if source is None or block:
        raise LiftError(f"QuantizeLinear {node.name!r} has a scale for each block")
    weight, dtype = constant(source), output.dtype or ir.DataType.UINT8
    if weight is not None:
        floats = dequantized(as_quantized(weight, grid, axis, dtype), grid, axis)
        lift.floats[output] = new_initializer(lift.graph, f"{source.name}_rounded", floats), grid
        return
    operands = [output, grid.scale_value, *([] if grid.zero_value is None else [grid.zero_value])]
    attributes: dict[str, Any] = {"axis": axis} if grid.scale.ndim else {}
    restore = new_node(lift.graph, "DequantizeLinear", operands, f"{node.name}_restored", ir.DataType.FLOAT, attributes)
    lift.graph.insert_after(node, restore)
    lift.floats[output] = restore.outputs[0], grid


def _dequantize(lift: Lifting, node: ir.Node) -> None:
    grid, value = lift.grid(node, 1, 2), input_at(node, 0)
    block: int = node.attributes.get_int("block_size", 0)
    axis = node.attributes.get_int("axis", 1)
    if value is not None and value.is_graph_input() and value not in lift.floats:
        lift.floats[value] = node.outputs[0], grid
        return
    floats = lift.read(node, value, grid, axis, block)
    floats.shape = floats.shape or node.outputs[0].shape
    if not replace_value(node.outputs[0], floats):
        replace_value(node.outputs[0], lift.add(node, "Identity", [floats], f"{node.name}_kept", {}))


def _keep_output(lift: Lifting, value: ir.Value) -> None:
    """A quantized output of the graph stays quantized, under its name."""
    floats, grid = lift.floats[value]
    operands = [grid.scale_value, *([] if grid.zero_value is None else [grid.zero_value])]
    dtype = value.dtype if value.dtype in INTEGERS else ir.DataType.UINT8
    assert dtype is not None
    last = new_node(lift.graph, "QuantizeLinear", [floats, *operands], f"{value.name}_output", dtype)
    lift.graph.append(last)
    last.outputs[0].shape = value.shape
    replace_value(value, last.outputs[0])
