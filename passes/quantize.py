"""INT8 for x86 through onnxruntime: unsigned asymmetric activations, signed per-channel weights, int32 biases.

onnxruntime fuses ``DequantizeLinear -> op -> QuantizeLinear`` into an integer kernel. On a CPU with VNNI its fast
kernels take unsigned activations and signed weights; signed activations can be slower than float32. So activations
are uint8 with a zero point, weights int8 with zero point 0.

Precision is chosen node by node. Three kinds of integer nodes differ in what happens to their output:

    convolution, addition, product, sigmoid, pooling ...   quantized
    MatMul, Gemm                                           quantized only if an integer node reads it: there are
                                                           kernels that take integers and give floats
    MaxPool, Reshape, Split, nearest Resize ...            in and out share one scale: the integers are only moved

A Relu or Clip after an integer node costs nothing: the value in between stays unquantized, and the range of the
output does the clipping.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import PassError
from edgeprune.passes.edit import naming, new_initializer, new_node, remove_dead
from edgeprune.passes.int8_x86 import (
    CARRY_OPS,
    CLIP_OPS,
    FLOAT_OUTPUT_OPS,
    data_inputs,
    int8_eligible,
    output_axis,
)
from edgeprune.passes.qdq import asymmetric_scale, insert_qdq, quantize, quantize_weight, require_int8

_SHARED_RANGE_RATIO = 2.0
"""Operands of a Concat share a scale when their ranges differ by at most this factor: moving integers is faster than
rescaling them."""

_BIAS_LIMIT = 2.0**30


def values_to_quantize(model: ir.Model, int8: Collection[str]) -> list[str]:
    """Names of the activations that get a scale when the named nodes run on integers; ranges are needed for these."""
    return [str(v.name) for v in _quantized(model.graph, set(int8))]


def quantize_x86(
    model: ir.Model, int8: Collection[str], ranges: Mapping[str, tuple[float, float]], *, weight_bits: int = 8
) -> ir.Model:
    """A copy of the model in which the named nodes run on integers.

    Args:
        model: canonical, float32, opset 13 or later.
        int8: names of nodes; each must be eligible.
        ranges: activation name -> (low, high), for all of ``values_to_quantize``.
        weight_bits: 8, or 7 on CPUs without VNNI, whose uint8 x int8 sums saturate at 16 bits.

    Raises:
        PassError: if a node is unknown or not eligible, a range is missing, or the opset is older than 13.
    """
    require_int8("quantize", model, int8, int8_eligible(model))
    copy = graphs.clone(model)
    chosen = set(int8)
    values = _quantized(copy.graph, chosen)
    if missing := [v.name for v in values if v.name not in ranges]:
        raise PassError(f"quantize: no range is given for {missing[0]!r}")
    scales = _scales(copy.graph, chosen, values, ranges)
    nodes = {str(n.name): n for n in copy.graph}
    with naming(copy.graph):
        for name in sorted(chosen):
            _quantize_constants(copy, nodes[name], scales, weight_bits)
        for v in values:
            _insert(copy, v, chosen, *scales[v])
    remove_dead(copy.graph)  # the float weights
    return copy


def _quantized(graph: ir.Graph, int8: set[str]) -> list[ir.Value]:
    """Activations with a scale: what integer nodes read, and what they write unless a float or a clip follows."""
    found: dict[ir.Value, None] = {}
    for node in graph:
        if node.name not in int8:
            continue
        inner = {v for v in node.inputs if v is not None and _clipped_by(v, node, int8)}
        for v in data_inputs(node):
            if v.const_value is None and v not in inner:
                found[v] = None
        if node.op_type not in FLOAT_OUTPUT_OPS:
            for v in node.outputs:
                if not any(_clipped_by(v, c, int8) for c in v.consumers()):
                    found[v] = None
    return list(found)


def _clipped_by(value: ir.Value, node: ir.Node, int8: set[str]) -> bool:
    """Whether ``value`` goes from an integer node to this integer Relu or Clip alone, and so needs no scale."""
    producer = value.producer()
    return (
        node.op_type in CLIP_OPS
        and node.name in int8
        and producer is not None
        and producer.name in int8
        and producer.op_type not in CARRY_OPS | CLIP_OPS
        and len(value.consumers()) == 1
        and not value.is_graph_output()
    )


def _scales(
    graph: ir.Graph, int8: set[str], values: list[ir.Value], ranges: Mapping[str, tuple[float, float]]
) -> dict[ir.Value, tuple[NDArray[Any], NDArray[Any]]]:
    """Scale and zero point of every value; values that are only moved share theirs."""
    bounds = {v: (min(0.0, ranges[str(v.name)][0]), max(0.0, ranges[str(v.name)][1])) for v in values}
    owner = {v: v for v in values}

    def find(v: ir.Value) -> ir.Value:
        while owner[v] is not v:
            v = owner[v]
        return v

    for node in graph:
        if node.name not in int8 or node.op_type not in CARRY_OPS | {"Concat"}:
            continue
        moved = [find(v) for v in (*data_inputs(node), *node.outputs) if v in owner]
        widths = [bounds[v][1] - bounds[v][0] for v in moved]
        if node.op_type == "Concat" and max(widths) > _SHARED_RANGE_RATIO * min(widths):
            continue
        for v in moved[1:]:
            low, high = bounds[find(v)]
            owner[find(v)] = moved[0]
            bounds[moved[0]] = (min(low, bounds[moved[0]][0]), max(high, bounds[moved[0]][1]))
    return {v: asymmetric_scale(*bounds[find(v)]) for v in values}


def _insert(model: ir.Model, value: ir.Value, int8: set[str], scale: NDArray[Any], zero: NDArray[Any]) -> None:
    producer = value.producer()
    written_as_integer = producer is not None and producer.name in int8 and producer.op_type not in FLOAT_OUTPUT_OPS
    readers = None if written_as_integer else [c for c in value.consumers() if c.name in int8]
    restored = insert_qdq(model, value, scale, zero, ir.DataType.UINT8, readers)
    if written_as_integer and value.is_graph_output():
        name = value.name
        for i, output in enumerate(model.graph.outputs):
            if output is value:
                model.graph.outputs[i] = restored
        value.name, restored.name = f"{name}_exact", name


def _quantize_constants(
    model: ir.Model,
    node: ir.Node,
    scales: Mapping[ir.Value, tuple[NDArray[Any], NDArray[Any]]],
    weight_bits: int,
) -> None:
    """Integer weight and bias of a convolution or product; the scalar of an elementwise node."""
    graph = model.graph
    if node.op_type in ("Add", "Mul", "Concat"):
        for i, v in enumerate(node.inputs):
            if v is not None and v.const_value is not None:
                array = v.const_value.numpy()
                scale, zero = asymmetric_scale(float(array.min()), float(array.max()))
                integers = quantize(array, scale, zero, low=0, high=255)
                node.replace_input_with(i, _dequantized(graph, node, v, integers, scale, zero, None))
        return
    if node.op_type not in ("Conv", "Gemm", "MatMul"):
        return
    data, weight = node.inputs[0], node.inputs[1]
    if weight is None or weight.const_value is None or data is None:
        return
    array = weight.const_value.numpy()
    axis = output_axis(node, array.ndim)
    integers, scale, zero = quantize_weight(array, axis, weight_bits)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.const_value is not None and axis is not None:
        bias_array = np.broadcast_to(bias.const_value.numpy().astype(np.float64).ravel(), scale.shape)
        input_scale = float(scales[data][0])
        # A channel of near-zero weights has a scale so small that its bias would overflow 32 bits.
        needed = np.abs(bias_array) / (input_scale * _BIAS_LIMIT)
        scale = np.maximum(scale, needed.astype(np.float32))
        top = 2 ** (weight_bits - 1) - 1
        integers = quantize(array, scale, zero, axis=axis, low=-top, high=top)
        bias_scale = (scale.astype(np.float64) * input_scale).astype(np.float32)
        steps = np.rint(bias_array / bias_scale).astype(np.int32)
        node.replace_input_with(
            2, _dequantized(graph, node, bias, steps, bias_scale, np.zeros(scale.shape, np.int32), 0)
        )
    node.replace_input_with(1, _dequantized(graph, node, weight, integers, scale, zero, axis))


def _dequantized(
    graph: ir.Graph,
    node: ir.Node,
    source: ir.Value,
    integers: NDArray[Any],
    scale: NDArray[Any],
    zero: NDArray[Any],
    axis: int | None,
) -> ir.Value:
    stored = new_initializer(graph, f"{source.name}_quantized", integers)
    scale_value = new_initializer(graph, f"{source.name}_scale", scale)
    zero_value = new_initializer(graph, f"{source.name}_zero_point", zero)
    attributes = {} if axis is None else {"axis": axis}
    restore = new_node(
        graph,
        "DequantizeLinear",
        [stored, scale_value, zero_value],
        f"{source.name}_dequantize",
        ir.DataType.FLOAT,
        attributes,
    )
    graph.insert_before(node, [restore])
    restored: ir.Value = restore.outputs[0]
    return restored
