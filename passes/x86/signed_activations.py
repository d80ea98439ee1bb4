"""The same INT8 graph with signed activations, for Arm.

onnxruntime's INT8 kernels for Arm multiply signed by signed numbers: SDOT where the processor has dot products, SMLAL
elsewhere. Unsigned activations first have their sign flipped, or use kernels that only some versions have. On x86 it is
the other way round. A shift of all quantized values and of all zero points by 128 turns one form into the other, and
every real number stays exactly the same.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import is_op

_SHIFT = 128
_MOVES = (
    *("Clip", "Concat", "DepthToSpace", "DequantizeLinear", "Expand", "Flatten", "Gather", "Identity", "MaxPool"),
    *("Pad", "QuantizeLinear", "Reshape", "Resize", "Shape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile"),
    *("Transpose", "Unsqueeze"),
)
"""Operators whose result shifts with their quantized inputs, or does not depend on their values."""


def signed_activations(model: ir.Model) -> ir.Model:
    """A copy of a quantized model with INT8 in the place of UINT8.

    The model itself if it has no UINT8, or if bytes are an input or output of it or are calculated with: then they have
    a meaning of their own.
    """
    touched = [n for n in model.graph if any(_is_byte(v) for v in (*n.inputs, *n.outputs))]
    ends = (*model.graph.inputs, *model.graph.outputs)
    if not touched or any(_is_byte(v) for v in ends) or not all(_shifts(n) for n in touched):
        return model
    copy = graphs.clone(model)
    for value in list(copy.graph.initializers.values()):
        if _is_byte(value) and value.const_value is not None:
            shifted = value.const_value.numpy().astype(np.int16) - _SHIFT
            value.const_value = ir.tensor(shifted.astype(np.int8), name=value.name)
            value.type = ir.TensorType(ir.DataType.INT8)
    for node in copy.graph:
        for value in node.outputs:
            if _is_byte(value):
                value.type = ir.TensorType(ir.DataType.INT8)
    return copy


def _is_byte(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.UINT8


def _shifts(node: ir.Node) -> bool:
    if node.op_type == "Pad":  # without a value it pads with the number 0, which is another real number when shifted
        return len(node.inputs) > 2 and node.inputs[2] is not None
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):  # without a zero point the type is implied
        return len(node.inputs) > 2 and node.inputs[2] is not None
    return is_op(node, *_MOVES)
