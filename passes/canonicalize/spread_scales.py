"""Give an asymmetric weight with a single scale one scale for every output channel, all equal.

The zero point of such a weight is not 0, so only a scale of 0 makes a channel zero. The dense network with masked
channels, to which pruning is compared, therefore needs a scale for every channel. The values stay the same bit for bit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, constant, input_at, is_op, static_shape
from edgeprune.passes.canonicalize.layer_outputs import output_axis


def spread_scales(model: ir.Model) -> int:
    """Rewrite, in place, every DequantizeLinear of such a weight; returns how many."""
    if model.opset_imports.get("", 1) < 13:  # the first opset with a scale for every channel
        return 0
    names, count = Names(model), 0
    for node in model.graph:
        if not is_op(node, "DequantizeLinear") or constant(node.inputs[0]) is None:
            continue
        scale, zero_point = constant(input_at(node, 1)), constant(input_at(node, 2))
        shape, axis = static_shape(node.inputs[0]), _channels(node)
        if scale is None or zero_point is None or shape is None or axis is None or scale.ndim > 0:
            continue
        if zero_point.ndim > 0 or not zero_point.astype(np.int64).any():
            continue
        for index, array in ((1, scale), (2, zero_point)):
            base = node.inputs[index]
            assert base is not None
            spread = add_initializer(model.graph, names.fresh(f"{base.name}_spread"), np.full(shape[axis], array))
            node.replace_input_with(index, spread)
        node.attributes["axis"] = ir.AttrInt64("axis", axis)
        count += 1
    return count


def _channels(node: ir.Node) -> int | None:
    """The output channel axis of a weight; None if its readers disagree or do not multiply with it."""
    axes = {_channel_axis(use.node, use.idx) for use in node.outputs[0].uses()}
    return axes.pop() if len(axes) == 1 and not node.outputs[0].is_graph_output() else None


def _channel_axis(reader: ir.Node, operand: int) -> int | None:
    weight = reader.inputs[operand]
    rank = len(weight.shape) if weight is not None and weight.shape is not None else 0
    if operand != 1 or rank < 2:
        return None
    if is_op(reader, "Conv", "Gemm"):
        return output_axis(reader)
    if is_op(reader, "ConvTranspose") and reader.attributes.get_int("group", 1) == 1:
        return 1
    return rank - 1 if is_op(reader, "MatMul") else None
