"""Fold BatchNormalization into the linear layer before it, or, if that has no padding, into the one after it.

With scale g, shift b, mean m, variance v and epsilon e per channel, the node computes ``a x + c`` with ``a = g /
sqrt(v + e)`` and ``c = b - a m`` (Ioffe & Szegedy 2015, section 3.1). Computed in float64, stored in the weight's
type. Arithmetic with constants per channel behind a layer is folded in the same sweep, since it may be between a layer
and its normalization: see :mod:`edgeprune.passes.canonicalize.fold_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Names, constant, dim_keys, input_at, is_op, only_use, replace_value
from edgeprune.passes.canonicalize.fold_arithmetic import fold_arithmetic
from edgeprune.passes.canonicalize.layer_outputs import (
    LAYERS,
    has_constant_weights,
    is_plain,
    scale_matmul,
    scale_outputs,
    set_arrays,
)

Array = NDArray[Any]

FOLDED_SCALE = "folded_scale"
"""Key in a layer's ``meta`` for the scale of a BatchNormalization that was folded into it: shape (channels,)."""


def fold_batchnorm(model: ir.Model, blocked: Collection[ir.Node] = ()) -> int:
    """Fold every BatchNormalization that can be folded, in place; returns how many.

    ``blocked``: nodes to leave as they are, because folding them would make several weights of a shared one.
    """
    names, folded = Names(model), 0
    for node in list(model.graph):
        if node in blocked:
            continue
        affine = _affine(node)
        if affine is not None:
            done = _into_producer(node, *affine, names) or _into_consumer(node, *affine, names)
        else:
            done = fold_arithmetic(node, names)
        if done:
            model.graph.remove(node, safe=True)  # now, so that the layer has a single reader for the next node
            folded += 1
    return folded


def _affine(node: ir.Node) -> tuple[Array, Array] | None:
    """Scale and shift per channel, float64, of a BatchNormalization in inference mode with constant statistics."""
    if not is_op(node, "BatchNormalization") or node.attributes.get_int("training_mode"):
        return None
    statistics_read = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    if statistics_read or node.attributes.get_int("spatial", 1) != 1:
        return None
    constants = [constant(value) for value in node.inputs[1:5]]
    if len(constants) < 4 or any(c is None or c.ndim != 1 for c in constants):
        return None
    gamma, beta, mean, variance = (c.astype(np.float64) for c in constants if c is not None)
    scale = gamma / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
    shift = beta - scale * mean
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _into_producer(node: ir.Node, scale: Array, shift: Array, names: Names) -> bool:
    source = node.inputs[0]
    found = _producer(source, len(scale)) if source is not None else None
    if source is None or found is None or found.graph is not node.graph:
        return False
    if is_op(found, "MatMul", "Add"):
        return scale_matmul(found, scale, shift, names) and replace_value(node.outputs[0], source)
    if not (is_plain(found) and has_constant_weights(found)):
        return False
    scale_outputs(found, scale, shift, names)
    found.meta[FOLDED_SCALE] = constant(node.inputs[1])
    return replace_value(node.outputs[0], source)


def _producer(value: ir.Value, channels: int) -> ir.Node | None:
    """The linear node before a value and before reshapes that keep the last axis; None if there is none.

    Nothing else may read the values between. A linear layer on tokens is normalized as ``MatMul, Flatten to (tokens,
    channels), BatchNormalization``.
    """
    passed = False
    while only_use(value) is not None and (node := value.producer()) is not None:
        if is_op(node, *LAYERS):
            return node if not passed else None
        if len(value.shape or ()) < 2 or dim_keys(value) is None or (dim_keys(value) or ())[-1] != channels:
            return None
        source = node.inputs[0]
        if is_op(node, "MatMul", "Add") and (passed or len(value.shape or ()) == 2):
            return node
        if not is_op(node, "Reshape", "Flatten") or source is None or (dim_keys(source) or (None,))[-1] != channels:
            return None
        if not passed and len(value.shape or ()) != 2:
            return None  # the normalized axis is not the last
        value, passed = source, True
    return None


def _into_consumer(node: ir.Node, scale: Array, shift: Array, names: Names) -> bool:
    """Fold into the layer after; exact only without padding, since a padded zero is not normalized."""
    use = only_use(node.outputs[0])
    if use is None or use[1] != 0 or not is_op(use[0], "Conv", "Gemm") or use[0].graph is not node.graph:
        return False
    consumer = use[0]
    weight, bias = constant(input_at(consumer, 1)), constant(input_at(consumer, 2))
    if weight is None or (input_at(consumer, 2) is not None and bias is None) or node.inputs[0] is None:
        return False
    if is_op(consumer, "Conv"):
        attributes = consumer.attributes
        padded = any(attributes.get_ints("pads", ())) or attributes.get_string("auto_pad", "NOTSET").startswith("SAME")
        if padded or attributes.get_int("group", 1) != 1:
            return False
        spatial = tuple(range(2, weight.ndim))
        factor = scale.reshape(1, -1, *(1,) * len(spatial))
        added = weight.astype(np.float64).sum(axis=spatial) @ shift
    else:
        transposed = consumer.attributes.get_int("transB", 0)
        if not is_plain(consumer) or (weight.shape[1 if transposed else 0] != scale.size):
            return False
        factor = scale.reshape(1, -1) if transposed else scale.reshape(-1, 1)
        added = weight.astype(np.float64) @ shift if transposed else shift @ weight.astype(np.float64)
    old = np.zeros(()) if bias is None else bias.astype(np.float64)
    set_arrays(consumer, weight * factor, old + added, weight.dtype, names)
    consumer.replace_input_with(0, node.inputs[0])
    return True
