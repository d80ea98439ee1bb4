"""Fold arithmetic with constants per channel into the linear layer before it.

Some exporters write a convolution's bias as an Add. Transformers and ConvNeXts scale the output of a residual branch by
a learned factor per channel ("layer scale", Touvron et al. 2021, "Going deeper with image transformers", eq. 4), behind
a layer on tokens and often a Transpose. As part of the weights it costs nothing, and needs no Mul in INT8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Names, constant, dim_keys, input_at, ints_attribute, is_op, only_use, replace_value
from edgeprune.passes.canonicalize.layer_outputs import has_constant_weights, is_plain, scale_matmul, scale_outputs

Array = NDArray[Any]


def fold_arithmetic(node: ir.Node, names: Names) -> bool:
    """Fold an Add, Sub, Mul or Div with constants per channel into the layer before it, if possible.

    Readers of the node then read its operand; the caller removes the node. Returns whether it was folded.
    """
    if not is_op(node, "Add", "Sub", "Mul", "Div"):
        return False
    for index in (0, 1) if is_op(node, "Add", "Mul") else (0,):
        source, array = input_at(node, index), constant(input_at(node, 1 - index))
        if source is None or array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
            continue
        affine = _affine(node, array)
        if affine is not None and _into_layer(source, array.shape, *affine, names):
            return replace_value(node.outputs[0], source)
    return False


def _affine(node: ir.Node, array: Array) -> tuple[Array | None, Array | None] | None:
    """The factor and the summand of a node, flat and float64."""
    vector = array.astype(np.float64).reshape(-1)
    if is_op(node, "Add", "Sub"):
        return None, vector if is_op(node, "Add") else -vector
    if is_op(node, "Mul"):
        return vector, None
    return (1 / vector, None) if vector.all() else None


def _into_layer(
    value: ir.Value, shape: tuple[int, ...], scale: Array | None, shift: Array | None, names: Names
) -> bool:
    """Scale or shift the layer that computes ``value``, by constants of this shape, which broadcast over it."""
    dims = dim_keys(value)
    if dims is None or len(shape) > len(dims):
        return False
    long = [axis + len(dims) - len(shape) for axis, size in enumerate(shape) if size != 1]
    layer = _layer(value, long[0] if long else None) if len(long) <= 1 else None
    if layer is None or layer.graph is not next(iter(value.uses())).node.graph:
        return False
    if not is_op(layer, "Conv", "ConvTranspose"):
        # A sum behind a MatMul already is its bias, and a single factor costs little where it is.
        if scale is None or not long or dims[long[0]] != scale.size:
            return False
        if is_op(layer, "MatMul", "Add"):
            return scale_matmul(layer, scale, None, names)
    channels = (dim_keys(layer.outputs[0]) or (None, None))[1]
    if not isinstance(channels, int) or (long and dims[long[0]] != channels) or not has_constant_weights(layer):
        return False
    spread = [None if v is None else np.broadcast_to(v, (channels,)) for v in (scale, shift)]
    scale_outputs(layer, np.ones(channels) if spread[0] is None else spread[0], spread[1], names)
    return True


def _layer(value: ir.Value, axis: int | None) -> ir.Node | None:
    """The layer before transposes and reshapes whose output channels are this axis of the value; None if there is none.

    Nothing else may read the values between. Without an axis, the layer that computes the value itself. For a MatMul
    with a bias it is the Add.
    """
    while only_use(value) is not None and (node := value.producer()) is not None:
        rank = len(value.shape or ())
        if is_op(node, "Conv", "ConvTranspose"):
            return node if axis in (None, 1) else None
        if is_op(node, "Gemm"):
            return node if axis == 1 and is_plain(node) else None
        if is_op(node, "MatMul", "Add"):
            return node if axis == rank - 1 else None
        source = input_at(node, 0)
        dims, earlier = dim_keys(value), dim_keys(source)
        if source is None or axis is None or not dims or not earlier:
            return None
        if is_op(node, "Transpose"):
            axis = (ints_attribute(node, "perm") or tuple(reversed(range(rank))))[axis]
        elif is_op(node, "Reshape") and axis == rank - 1 and isinstance(dims[-1], int) and earlier[-1] == dims[-1]:
            axis = len(earlier) - 1
        else:
            return None
        value = source
    return None
