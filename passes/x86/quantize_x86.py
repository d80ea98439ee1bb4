"""INT8 Q/DQ for onnxruntime on x86: unsigned asymmetric activations, signed per-channel weights, INT32 biases.

onnxruntime fuses ``DequantizeLinear -> op -> QuantizeLinear`` into an INT8 kernel. On a CPU with VNNI its fast kernels
take unsigned activations and signed weights; signed activations can be slower than float32. So activations are uint8
with a zero point, and weights are int8 with zero point 0.

The precision is chosen node by node. The kinds of INT8 nodes differ in how their output is quantized:

    Conv, Add, Mul, Sigmoid, pooling ...                   quantized
    MatMul, Gemm                                           quantized only if an INT8 node reads it: there are kernels
                                                           with INT8 inputs and a float output
    MaxPool, Reshape, Split, nearest Resize ...            input and output share one scale: values are only moved
    Add, Mul ... with a scalar, HardSigmoid, Clip ...      affine ops: the quantized values of the input, read with
                                                           another scale and zero point

A Relu or Clip after an INT8 node costs nothing: the value in between is not quantized, and the range of the output does
the clipping.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.errors import PassError
from edgeprune.graph import (
    asymmetric_scale,
    insert_qdq,
    merge_equal_integers,
    naming,
    new_initializer,
    new_node,
    quantize,
    quantize_weight,
    remove_dead,
    replace_value,
    require_int8,
)
from edgeprune.passes.quantize import AffineOp, affine_op_of
from edgeprune.passes.x86.activation_scales import ActivationScale, activation_scales
from edgeprune.passes.x86.convolve_batchnorm import convolve_batchnorm
from edgeprune.passes.x86.drop_reshapes import drop_reshapes
from edgeprune.passes.x86.edits import take_place
from edgeprune.passes.x86.int8_nodes import (
    CARRY_OPS,
    CLIP_OPS,
    FLOAT_OUTPUT_OPS,
    data_inputs,
    int8_eligible,
    output_axis,
)
from edgeprune.passes.x86.matmul_bias import biases_to_merge, flatten_rows, merge_biases, separate_readers
from edgeprune.passes.x86.pad_channels import pad_channels
from edgeprune.passes.x86.pad_images import pad_image_weights, pad_images
from edgeprune.passes.x86.repeat_pixels import repeat_pixels
from edgeprune.passes.x86.shuffle_pixels import as_convolution, shuffle_pixels, tile_of
from edgeprune.passes.x86.ungroup import ungroup

_BIAS_LIMIT = 2.0**30

Merged = Mapping[ir.Node, ir.Node]


def values_to_quantize(model: ir.Model, int8: Collection[str]) -> list[str]:
    """Names of the activations that are quantized if the named nodes run in INT8; each of them needs a range."""
    return [str(v.name) for v in _quantized(model.graph, set(int8), biases_to_merge(model.graph, set(int8)))]


def quantize_x86(
    model: ir.Model, int8: Collection[str], ranges: Mapping[str, tuple[float, float]], *, weight_bits: int = 8
) -> ir.Model:
    """A copy of the model in which the named nodes run in INT8.

    Args:
        model: canonical, float32, opset 13 or later.
        int8: names of nodes; each must be eligible.
        ranges: activation name -> (low, high), for all of ``values_to_quantize``.
        weight_bits: 8, or 7 on CPUs without VNNI, whose uint8 x int8 sums saturate at 16 bits.

    Raises:
        PassError: a node is unknown or not eligible, a range is missing, or the opset is older than 13.
    """
    require_int8("quantize", model, int8, int8_eligible(model))
    copy = graphs.clone(model)
    graph, chosen = copy.graph, set(int8)
    with naming(graph):
        chosen |= _expand_hard_swish(graph, chosen)
        convolve_batchnorm(graph, chosen)
        tiled = [as_convolution(graph, n) for n in list(graph) if n.name in chosen and tile_of(n) is not None]
        pad_channels(graph, chosen)
        ungroup(graph, chosen, vnni=weight_bits > 7)
        padded = pad_image_weights(graph, chosen)
        gemms = merge_biases(graph, chosen)
        values = _quantized(graph, chosen)
        if missing := [v.name for v in values if v.name not in ranges]:
            raise PassError(f"quantize: no range is given for {missing[0]!r}")
        affine_ops = _affine_ops(graph, chosen)
        scales, apart = activation_scales(graph, chosen, values, affine_ops, ranges, _limits(graph, chosen))
        shared = {node: affine_op for node, affine_op in affine_ops.items() if node.outputs[0] not in apart}
        for node in list(graph):
            if node.name in chosen and node not in shared:
                _quantize_constants(graph, node, scales, weight_bits)
        for v in (*values, *apart):
            _insert_qdq(copy, v, chosen, scales[v])
        for convolution in tiled:
            shuffle_pixels(graph, convolution)
        for node, affine_op in shared.items():
            _replace_affine_op(graph, node, affine_op, scales[node.outputs[0]])
        pad_images(graph, padded)
        flatten_rows(graph, gemms)
        drop_reshapes(graph, gemms)
        separate_readers(graph, chosen)
        repeat_pixels(graph, chosen)
    remove_dead(graph)  # the float weights
    merge_equal_integers(graph)
    return copy


def _quantized(graph: ir.Graph, int8: set[str], merged: Merged | None = None) -> list[ir.Value]:
    """Activations to quantize: inputs of INT8 nodes, and their outputs if the kernel gives no float.

    The input of a clip that its producer absorbs is not quantized, and the output of an affine op is not either.
    ``merged``: Adds that will be part of their MatMul, whose result a clip can be absorbed by, too.
    """
    found: dict[ir.Value, None] = {}
    derived = {node.outputs[0] for node in _affine_ops(graph, int8, merged)}
    for node in graph:
        if node.name not in int8:
            continue
        inner = {v for v in node.inputs if v is not None and _clipped_by(v, node, int8, merged)}
        for v in data_inputs(node):
            if v.const_value is None and v not in inner | derived:
                found[v] = None
        if node.op_type not in FLOAT_OUTPUT_OPS:
            for v in node.outputs:
                if v not in derived and not any(_clipped_by(v, c, int8, merged) for c in v.consumers()):
                    found[v] = None
    return list(found)


def _affine_ops(graph: ir.Graph, int8: set[str], merged: Merged | None = None) -> dict[ir.Node, AffineOp]:
    """INT8 nodes that are affine ops, in order, except for the clips that their producer absorbs."""
    found = {}
    for node in graph:
        affine_op = affine_op_of(node) if node.name in int8 else None
        if affine_op is not None and not _clipped_by(affine_op.source, node, int8, merged):
            found[node] = affine_op
    return found


def _limits(graph: ir.Graph, int8: set[str]) -> dict[ir.Value, tuple[float, float]]:
    """Output of a clip that its INT8 producer absorbs -> where it clips.

    onnxruntime absorbs a clip only if no quantized value lies outside its limits. Otherwise it dequantizes the weights
    in every inference and runs the node in float.
    """
    absorbed = [n for n in graph if n.name in int8 and n.inputs and n.inputs[0] is not None
                and _clipped_by(n.inputs[0], n, int8)]  # fmt: skip
    return {n.outputs[0]: (clip.low, clip.high) for n in absorbed if (clip := affine_op_of(n)) is not None}


def _clipped_by(value: ir.Value, node: ir.Node, int8: set[str], merged: Merged | None = None) -> bool:
    """Whether ``value`` needs no scale, because an INT8 node computes it and only this INT8 Relu or Clip reads it."""
    producer = value.producer()
    producer = (merged or {}).get(producer, producer) if producer is not None else None
    return (
        node.op_type in CLIP_OPS
        and node.name in int8
        and producer is not None
        and producer.name in int8
        and producer.op_type not in CARRY_OPS
        and affine_op_of(producer) is None
        and len(value.consumers()) == 1
        and not value.is_graph_output()
    )


def _expand_hard_swish(graph: ir.Graph, int8: Collection[str]) -> set[str]:
    """Write each INT8 HardSwish as HardSigmoid and Mul, with the Mul under its name; names of the HardSigmoids."""
    added = set()
    for node in [n for n in graph if n.op_type == "HardSwish" and n.name in int8]:
        x, name = node.inputs[0], str(node.name)
        assert x is not None
        sixth = {"alpha": 1 / 6, "beta": 0.5}
        factor = new_node(graph, "HardSigmoid", [x], f"{name}_factor", ir.DataType.FLOAT, sixth)
        mul = new_node(graph, "Mul", [x, factor.outputs[0]], f"{name}_product", ir.DataType.FLOAT)
        graph.insert_before(node, factor)
        take_place(graph, node, mul)
        added.add(str(factor.name))
    return added


def _replace_affine_op(graph: ir.Graph, node: ir.Node, affine_op: AffineOp, params: ActivationScale) -> None:
    """Replace an affine op by a second DequantizeLinear of its quantized input, behind a Clip if it clips."""
    read = next(p for v in node.inputs if v is not None and (p := v.producer()) is not None)
    quantized = read.inputs[0]
    assert read.op_type == "DequantizeLinear"
    assert quantized is not None
    name = str(node.outputs[0].name)
    low, high = (params.nearest(limit) for limit in (affine_op.low, affine_op.high))
    if (low, high) != (0, 255):
        limits = [
            new_initializer(graph, f"{name}_{what}", np.asarray(limit, np.uint8))
            for what, limit in (("lowest", low), ("highest", high))
        ]
        clip = new_node(graph, "Clip", [quantized, *limits], f"{name}_clip", ir.DataType.UINT8)
        graph.insert_before(node, clip)
        quantized = clip.outputs[0]
    scale = new_initializer(graph, f"{name}_scale", params.scale)
    zero = new_initializer(graph, f"{name}_zero_point", params.zero)
    restored = new_node(graph, "DequantizeLinear", [quantized, scale, zero], f"{name}_dequantize", ir.DataType.FLOAT)
    graph.insert_before(node, restored)
    replace_value(node.outputs[0], restored.outputs[0])
    graph.remove(node, safe=True)


def _insert_qdq(model: ir.Model, value: ir.Value, int8: set[str], scale: ActivationScale) -> None:
    """Quantize and dequantize a value for its INT8 readers, or for all readers if an INT8 kernel writes it."""
    producer = value.producer()
    written_in_int8 = producer is not None and producer.name in int8 and producer.op_type not in FLOAT_OUTPUT_OPS
    readers = None if written_in_int8 else [c for c in value.consumers() if c.name in int8]
    restored = insert_qdq(model, value, scale.scale, scale.zero, ir.DataType.UINT8, readers)
    if written_in_int8 and value.is_graph_output():
        name = value.name
        for i, output in enumerate(model.graph.outputs):
            if output is value:
                model.graph.outputs[i] = restored
        value.name, restored.name = f"{name}_exact", name


def _quantize_constants(
    graph: ir.Graph, node: ir.Node, scales: Mapping[ir.Value, ActivationScale], weight_bits: int
) -> None:
    """Quantize the weight and the bias of a Conv, Gemm or MatMul, or the scalar of an elementwise node."""
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
        input_scale = float(scales[data].scale)
        sums = array.astype(np.float64).sum(axis=tuple(a for a in range(array.ndim) if a != axis))
        bias_array = bias_array + scales[data].offset * sums
        # The scale of a channel with weights near zero is so small that its bias would overflow 32 bits.
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
    """The result of a DequantizeLinear of new initializers, in front of a node."""
    parts = {"quantized": integers, "scale": scale, "zero_point": zero}
    inputs = [new_initializer(graph, f"{source.name}_{what}", array) for what, array in parts.items()]
    attributes = {} if axis is None else {"axis": axis}
    restore = new_node(graph, "DequantizeLinear", inputs, f"{source.name}_dequantize", ir.DataType.FLOAT, attributes)
    graph.insert_before(node, [restore])
    restored: ir.Value = restore.outputs[0]
    return restored
