"""The float form of every operator that computes with quantized tensors: QOperator formats and integer products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, input_at, new_initializer, only_use, replace_value
from edgeprune.passes.dequantize.lifting import Grid, LiftError, Lifting, dequantized

MOVERS = frozenset(
    {"Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "MaxPool"}
    | {"Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that only move quantized values, or choose among them: the result stands on the same grid."""


def lift_mover(lift: Lifting, node: ir.Node) -> None:
    """An operator that moves quantized values does the same to the float values.

    Raises:
        LiftError: its operands stand on different grids, or a scale along an axis would have to move too.
    """
    operands = [v for v in node.inputs if lift.knows(v) and v is not None]
    grids = [lift.floats[v][1] for v in operands if v in lift.floats]
    grid = grids[0] if len(grids) == len(operands) else None
    if grid is None or grid.scale.ndim or not all(grid.equals(other) for other in grids):
        raise LiftError(f"{node.op_type} {node.name!r} moves quantized values of different scales")
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        if value is not None and (
            value in lift.floats or (value.dtype == operands[0].dtype and constant(value) is not None)
        ):
            inputs.append(lift.read(node, value, grid))
        else:
            inputs.append(value)
    made = ir.node(node.op_type, inputs, _plain(node), num_outputs=len(node.outputs), name=f"{node.name}_float")
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.name, new.dtype, new.shape = f"{old.name}_float", ir.DataType.FLOAT, old.shape
        lift.floats[old] = new, grid
    lift.graph.insert_before(node, made)


def lift_clip(lift: Lifting, node: ir.Node) -> None:
    """A Clip of integers is a Clip of floats; a Relu of integers with zero point 0 is a Relu."""
    value = node.inputs[0]
    assert value is not None
    floats, grid = lift.floats[value]
    inputs: list[ir.Value | None] = [floats]
    for bound in node.inputs[1:]:
        array = constant(bound)
        if bound is not None and array is None:
            raise LiftError(f"{node.op_type} {node.name!r} has a computed limit")
        if array is None:
            inputs.append(None)
        else:
            limit = np.float32((float(array) - float(grid.zero)) * float(grid.scale)).reshape(())
            inputs.append(new_initializer(lift.graph, f"{node.name}_limit", np.asarray(limit)))
    made = ir.node("Clip", inputs, num_outputs=1, name=f"{node.name}_float")
    made.outputs[0].name, made.outputs[0].dtype = f"{node.outputs[0].name}_float", ir.DataType.FLOAT
    lift.graph.insert_before(node, made)
    lift.floats[node.outputs[0]] = made.outputs[0], grid


def _conv(lift: Lifting, node: ir.Node) -> None:
    x, w = lift.grid(node, 1, 2), lift.grid(node, 4, 5)
    operands = [lift.read(node, node.inputs[0], x), lift.read(node, node.inputs[3], w, axis=0)]
    bias = constant(input_at(node, 8))
    if bias is not None:
        floats = np.asarray(bias.astype(np.float64) * x.scale * w.scale, np.float32)
        operands.append(new_initializer(lift.graph, f"{node.name}_bias", floats))
    _finish(lift, node, "Conv", operands, _plain(node), lift.grid(node, 6, 7))


def _matmul(lift: Lifting, node: ir.Node) -> None:
    operands = [
        lift.read(node, node.inputs[0], lift.grid(node, 1, 2), axis=-2),
        lift.read(node, node.inputs[3], lift.grid(node, 4, 5), axis=-1),
    ]
    _finish(lift, node, "MatMul", operands, {}, lift.grid(node, 6, 7))


def _gemm(lift: Lifting, node: ir.Node) -> None:
    a, b = lift.grid(node, 1, 2), lift.grid(node, 4, 5)
    transposed, alpha = node.attributes.get_int("transB", 0), node.attributes.get_float("alpha", 1.0)
    operands = [lift.read(node, node.inputs[0], a), lift.read(node, node.inputs[3], b, axis=0 if transposed else 1)]
    bias = constant(input_at(node, 6))
    if bias is not None:
        floats = np.asarray(bias.astype(np.float64) * a.scale * b.scale * alpha, np.float32)
        operands.append(new_initializer(lift.graph, f"{node.name}_bias", floats))
    attributes = {name: v for name, v in _plain(node).items() if name in ("alpha", "transA", "transB")}
    grid = lift.grid(node, 7, 8) if input_at(node, 7) is not None else None
    _finish(lift, node, "Gemm", operands, attributes, grid)


def _binary(op: str) -> Callable[[Lifting, ir.Node], None]:
    def lifted(lift: Lifting, node: ir.Node) -> None:
        operands = [lift.read(node, node.inputs[k], lift.grid(node, k + 1, k + 2)) for k in (0, 3)]
        _finish(lift, node, op, operands, {}, lift.grid(node, 6, 7))

    return lifted


def _unary(op: str) -> Callable[[Lifting, ir.Node], None]:
    def lifted(lift: Lifting, node: ir.Node) -> None:
        if node.attributes.get_int("channels_last", 0):
            raise LiftError(f"{node.op_type} {node.name!r} has its channels last")
        attributes = {n: v for n, v in _plain(node).items() if n not in ("channels_last", "opset")}
        operands = [lift.read(node, node.inputs[0], lift.grid(node, 1, 2))]
        _finish(lift, node, op, operands, attributes, lift.grid(node, 3, 4))

    return lifted


def _concat(lift: Lifting, node: ir.Node) -> None:
    operands = [lift.read(node, node.inputs[k], lift.grid(node, k + 1, k + 2)) for k in range(2, len(node.inputs), 3)]
    _finish(lift, node, "Concat", operands, _plain(node), lift.grid(node, 0, 1))


QOPERATORS: dict[str, Callable[[Lifting, ir.Node], None]] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearSoftmax": _unary("Softmax"),
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearConcat": _concat,
}
"""Operator of a QOperator model -> writes its float form before the node."""


def lift_integer_product(lift: Lifting, node: ir.Node) -> None:
    """ConvInteger or MatMulInteger of a dynamically quantized activation, up to the Mul that applies both scales.

    Raises:
        LiftError: its sums do not go through one Cast to one Mul by the product of both scales.
    """
    source, weight = lift.moving.get(_value(node, 0)), constant(input_at(node, 1))
    cast = only_use(node.outputs[0])
    mul = only_use(cast[0].outputs[0]) if cast is not None and cast[0].op_type == "Cast" else None
    if source is None or weight is None or mul is None or mul[0].op_type != "Mul":
        raise LiftError(f"{node.op_type} {node.name!r} does not end in one Cast and one Mul by its scales")
    factor = mul[0].inputs[1 - mul[1]]
    scale = _weight_scale(factor, lift.scales[_value(node, 0)])
    if scale is None:
        raise LiftError(f"the scale of {node.op_type} {node.name!r} is computed")
    zero = constant(input_at(node, 3))
    zeros = np.zeros(()) if zero is None else zero.astype(np.float64)
    axis = 0 if node.op_type == "ConvInteger" else weight.ndim - 1
    scale = scale.astype(np.float64).ravel() if scale.size > 1 else scale.astype(np.float64).reshape(())
    zeros = np.broadcast_to(zeros.reshape(()) if zeros.size == 1 else zeros.ravel(), scale.shape or zeros.shape or ())
    floats = dequantized(weight, Grid(np.broadcast_to(scale, zeros.shape), zeros, _value(node, 1), None), axis)
    name = str(_value(node, 1).name).removesuffix("_quantized")
    operands = [source, new_initializer(lift.graph, name, floats)]
    op = "Conv" if axis == 0 and node.op_type == "ConvInteger" else "MatMul"
    last = mul[0].outputs[0]
    if op == "Conv" and (bias := _bias_behind(last, weight.shape[0])) is not None:
        add, array = bias
        operands.append(new_initializer(lift.graph, f"{node.name}_bias", array.astype(np.float32)))
        last = add.outputs[0]
    result = lift.add(node, op, operands, f"{node.name}_float", _plain(node))
    result.shape = last.shape
    replace_value(last, result)


def _weight_scale(factor: ir.Value | None, activation: ir.Value) -> Any:
    """The constant part of the product of the scales of an activation and a weight; None if it is none."""
    if factor is activation:
        return np.ones(())
    producer = factor.producer() if factor is not None else None
    if producer is None or producer.op_type not in ("Mul", "Reshape", "Unsqueeze"):
        return None
    if producer.op_type != "Mul":
        return _weight_scale(producer.inputs[0], activation)
    others = [v for v in producer.inputs if v is not activation]
    return constant(others[0]) if len(others) == 1 else None


def _bias_behind(value: ir.Value, channels: int) -> tuple[ir.Node, Any] | None:
    """The Add of a constant for each channel that alone reads a convolution, and the constant as a vector."""
    use = only_use(value)
    if use is None or use[0].op_type != "Add":
        return None
    array = constant(use[0].inputs[1 - use[1]])
    if array is None or array.size != channels or array.ndim not in (3, 4) or array.shape[-3] != channels:
        return None
    return use[0], array.reshape(-1)


def lift_float_product(lift: Lifting, node: ir.Node) -> None:
    """DynamicQuantizeMatMul and MatMulIntegerToFloat of com.microsoft: a MatMul, and an Add of the bias."""
    if node.op_type == "DynamicQuantizeMatMul":
        source: ir.Value | None = node.inputs[0]
        grid, bias = lift.grid(node, 2, 3), input_at(node, 4)
    else:
        source, grid, bias = lift.moving.get(_value(node, 0)), lift.grid(node, 3, 5), input_at(node, 6)
        if source is None:
            source = lift.read(node, node.inputs[0], lift.grid(node, 2, 4), axis=-2)
    assert source is not None
    result = lift.add(
        node, "MatMul", [source, lift.read(node, node.inputs[1], grid, axis=-1)], f"{node.name}_float", {}
    )
    if bias is not None:
        result = lift.add(node, "Add", [result, bias], f"{node.name}_biased", {})
    replace_value(node.outputs[0], result)


def _finish(
    lift: Lifting, node: ir.Node, op: str, operands: list[ir.Value], attributes: dict[str, Any], grid: Grid | None
) -> None:
    result = lift.add(node, op, operands, str(node.name), attributes)
    result.shape = node.outputs[0].shape
    if grid is None:
        replace_value(node.outputs[0], result)
    else:
        lift.write(node, node.outputs[0], result, grid)


def _plain(node: ir.Node) -> dict[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _value(node: ir.Node, index: int) -> ir.Value:
    value = input_at(node, index)
    if value is None:
        raise LiftError(f"{node.op_type} {node.name!r} lacks an operand")
    return value
