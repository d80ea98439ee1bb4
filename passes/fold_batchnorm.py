"""Fold BatchNormalization into the linear layer before it, or, where no padding interferes, after it.

With scale g, shift b, mean m, variance v and epsilon e per channel, the node computes ``a x + c`` with ``a = g /
sqrt(v + e)`` and ``c = b - a m`` (Ioffe & Szegedy 2015, section 3.1). Computed in float64, stored in the weight's
type. Arithmetic with constants per channel directly behind a convolution, which is how some exporters write its bias,
is folded likewise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.passes.edit import (
    Names,
    add_initializer,
    add_node,
    constant,
    dim_keys,
    input_at,
    int_attribute,
    is_op,
    only_use,
    replace_value,
)

Array = NDArray[Any]
_PRODUCERS = ("Conv", "ConvTranspose", "Gemm")

FOLDED_SCALE = "folded_scale"
"""Under this name a layer's ``meta`` keeps the scale of a BatchNormalization folded into it: shape (channels,)."""


def fold_batchnorm(model: ir.Model) -> int:
    """Fold every BatchNormalization that can be, in place; returns how many."""
    names, folded = Names(model), 0
    for node in list(model.graph):
        affine = _affine(node)
        if affine is not None:
            done = _into_producer(node, *affine, names) or _into_consumer(node, *affine, names)
        elif (arithmetic := _constant_arithmetic(node)) is not None:
            _fold_into(*arithmetic, names)
            done = replace_value(node.outputs[0], arithmetic[0].outputs[0])
        else:
            continue
        if done:
            model.graph.remove(node, safe=True)  # at once, so that the next one finds the layer with a single reader
            folded += 1
    return folded


def _affine(node: ir.Node) -> tuple[Array, Array] | None:
    """Scale and shift per channel, float64, of a BatchNormalization in inference mode with constant statistics."""
    if not is_op(node, "BatchNormalization") or int_attribute(node, "training_mode", 0):
        return None
    if (
        any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
        or int_attribute(node, "spatial", 1) != 1
    ):
        return None
    constants = [constant(value) for value in node.inputs[1:5]]
    if len(constants) < 4 or any(c is None or c.ndim != 1 for c in constants):
        return None
    gamma, beta, mean, variance = (c.astype(np.float64) for c in constants if c is not None)
    epsilon = node.attributes.get("epsilon")
    scale = gamma / np.sqrt(variance + (1e-5 if epsilon is None else epsilon.as_float()))
    shift = beta - scale * mean
    return (scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _constant_arithmetic(node: ir.Node) -> tuple[ir.Node, Array, Array] | None:
    """A convolution and the scale and shift per channel that an Add, Sub, Mul or Div by constants applies to it."""
    if not is_op(node, "Add", "Sub", "Mul", "Div"):
        return None
    for index in (0, 1) if is_op(node, "Add", "Mul") else (0,):
        source, array = input_at(node, index), constant(input_at(node, 1 - index))
        producer = source.producer() if source is not None else None
        dims = dim_keys(source)
        if source is None or producer is None or array is None or dims is None or only_use(source) is None:
            continue
        if not is_op(producer, "Conv", "ConvTranspose") or producer.graph is not node.graph or array.ndim > len(dims):
            continue
        channels = dims[1]
        shape = (1,) * (len(dims) - array.ndim) + array.shape
        if not isinstance(channels, int) or shape[1] not in (1, channels) or any(d != 1 for d in shape[:1] + shape[2:]):
            continue
        if not _has_constant_weights(producer) or array.dtype.kind != "f" or not np.isfinite(array).all():
            continue
        vector = np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))
        ones, zeros = np.ones(channels), np.zeros(channels)
        if is_op(node, "Add", "Sub"):
            return producer, ones, vector if is_op(node, "Add") else -vector
        if is_op(node, "Mul") or vector.all():
            return producer, vector if is_op(node, "Mul") else 1 / vector, zeros
    return None


def _has_constant_weights(node: ir.Node) -> bool:
    return constant(input_at(node, 1)) is not None and (
        input_at(node, 2) is None or constant(input_at(node, 2)) is not None
    )


def _into_producer(node: ir.Node, scale: Array, shift: Array, names: Names) -> bool:
    source = node.inputs[0]
    found = _producer(source, len(scale)) if source is not None else None
    if source is None or found is None or found.graph is not node.graph:
        return False
    if is_op(found, "MatMul", "Add"):
        return _into_matmul(found, scale, shift, names) and replace_value(node.outputs[0], source)
    if not _plain_gemm(found):
        return False
    if not _has_constant_weights(found):
        return False
    _fold_into(found, scale, shift, names)
    found.meta[FOLDED_SCALE] = constant(node.inputs[1])
    return replace_value(node.outputs[0], source)


def _fold_into(found: ir.Node, scale: Array, shift: Array, names: Names) -> None:
    """Scale and shift the output channels of a convolution or plain Gemm by changing its weight and bias."""
    weight, bias = constant(input_at(found, 1)), constant(input_at(found, 2))
    assert weight is not None
    axis = _output_axis(found)
    if axis is None:  # ConvTranspose: (in, out/group, ...), the groups laid along the input axis
        groups = int_attribute(found, "group", 1)
        rows = np.repeat(scale.reshape(groups, 1, -1), weight.shape[0] // groups, axis=1).reshape(weight.shape[0], -1)
        factor: Array = rows.reshape(*rows.shape, *(1,) * (weight.ndim - 2))
    else:
        factor = scale.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])
    old = np.zeros(()) if bias is None else bias.astype(np.float64)
    _set_weights(found, weight * factor, old * scale + shift, weight.dtype, names)


def _producer(value: ir.Value, channels: int) -> ir.Node | None:
    """The linear node that computes a value which nothing else reads, past reshapes that leave the last axis alone.

    A linear layer on tokens is normalized as ``MatMul, Flatten to (tokens, channels), BatchNormalization``.
    """
    passed = False
    while only_use(value) is not None and (node := value.producer()) is not None:
        if is_op(node, *_PRODUCERS):
            return node if not passed else None
        if len(value.shape or ()) < 2 or dim_keys(value) is None or (dim_keys(value) or ())[-1] != channels:
            return None
        source = node.inputs[0]
        if is_op(node, "MatMul", "Add") and (passed or len(value.shape or ()) == 2):
            return node
        if not is_op(node, "Reshape", "Flatten") or source is None or (dim_keys(source) or (None,))[-1] != channels:
            return None
        if not passed and len(value.shape or ()) != 2:
            return None  # the axis that is normalized is not the last
        value, passed = source, True
    return None


def _into_matmul(node: ir.Node, scale: Array, shift: Array, names: Names) -> bool:
    """Fold into a MatMul with a constant right operand, and the Add of a constant vector after it if there is one."""
    matmul, added = node, None
    if is_op(node, "Add"):
        sides = [i for i in (0, 1) if constant(input_at(node, i)) is not None]
        other = node.inputs[1 - sides[0]] if len(sides) == 1 else None
        producer = other.producer() if other is not None else None
        added = constant(node.inputs[sides[0]]) if sides else None
        if other is None or producer is None or added is None or added.shape != scale.shape or only_use(other) is None:
            return False
        matmul = producer
    weight = constant(input_at(matmul, 1))
    if not is_op(matmul, "MatMul") or weight is None or weight.ndim != 2 or weight.shape[1] != len(scale):
        return False
    assert node.graph is not None
    base = matmul.inputs[1].name if matmul.inputs[1] is not None else matmul.name
    folded = add_initializer(node.graph, names.fresh(f"{base}_folded"), (weight * scale).astype(weight.dtype))
    bias = shift if added is None else added.astype(np.float64) * scale + shift
    vector = add_initializer(node.graph, names.fresh(f"{base}_bias"), bias.astype(weight.dtype))
    matmul.replace_input_with(1, folded)
    if is_op(node, "Add"):
        node.replace_input_with(sides[0], vector)
        return True
    output = matmul.outputs[0]
    uses = list(output.uses())
    addition = add_node(uses[0].node, "Add", [output, vector], names, name=f"{matmul.name}_bias")
    addition.outputs[0].shape, addition.outputs[0].type = output.shape, output.type
    for use in uses:
        use.node.replace_input_with(use.idx, addition.outputs[0])
    return True


def _into_consumer(node: ir.Node, scale: Array, shift: Array, names: Names) -> bool:
    """Exact only without padding: a padded zero would have to become the normalization of zero."""
    use = only_use(node.outputs[0])
    if use is None or use[1] != 0 or not is_op(use[0], "Conv", "Gemm") or use[0].graph is not node.graph:
        return False
    consumer = use[0]
    weight, bias = constant(input_at(consumer, 1)), constant(input_at(consumer, 2))
    if weight is None or (input_at(consumer, 2) is not None and bias is None) or node.inputs[0] is None:
        return False
    if is_op(consumer, "Conv"):
        pads, auto = consumer.attributes.get("pads"), consumer.attributes.get("auto_pad")
        if (pads is not None and any(pads.as_ints())) or (
            auto is not None and auto.as_string() not in ("NOTSET", "VALID")
        ):
            return False
        if int_attribute(consumer, "group", 1) != 1:
            return False
        spatial = tuple(range(2, weight.ndim))
        factor = scale.reshape(1, -1, *(1,) * len(spatial))
        added = weight.astype(np.float64).sum(axis=spatial) @ shift
    else:
        transposed = int_attribute(consumer, "transB", 0)
        if not _plain_gemm(consumer) or (weight.shape[1 if transposed else 0] != scale.size):
            return False
        factor = scale.reshape(1, -1) if transposed else scale.reshape(-1, 1)
        added = weight.astype(np.float64) @ shift if transposed else shift @ weight.astype(np.float64)
    old = np.zeros(()) if bias is None else bias.astype(np.float64)
    _set_weights(consumer, weight * factor, old + added, weight.dtype, names)
    consumer.replace_input_with(0, node.inputs[0])
    return True


def _plain_gemm(node: ir.Node) -> bool:
    """A Gemm whose alpha, beta and transA leave a plain linear layer; a convolution always is."""
    if not is_op(node, "Gemm"):
        return True
    factors = [node.attributes[name].as_float() for name in ("alpha", "beta") if name in node.attributes]
    return all(f == 1 for f in factors) and not int_attribute(node, "transA", 0)


def _output_axis(node: ir.Node) -> int | None:
    """The axis of the weight that is the node's output channel; None for ConvTranspose, where groups interleave."""
    if is_op(node, "ConvTranspose"):
        return None
    return 0 if is_op(node, "Conv") or int_attribute(node, "transB", 0) else 1


def _set_weights(node: ir.Node, weight: Array, bias: Array, dtype: np.dtype[Any], names: Names) -> None:
    """Give a node new weights, under the old names where nothing else uses the old ones."""
    for index, array in ((1, weight), (2, bias)):
        old = input_at(node, index)
        tensor = array.astype(dtype)
        if old is not None and len(old.uses()) == 1 and not old.is_graph_output():
            old.const_value = ir.Tensor(tensor, name=old.name)
            old.shape = ir.Shape(tensor.shape)
            continue
        assert node.graph is not None
        weight_name = node.inputs[1].name if node.inputs[1] is not None else node.name
        base = f"{weight_name}_{'folded' if index == 1 else 'bias'}"
        value = add_initializer(node.graph, names.fresh(base), tensor)
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)
