"""Which nodes TensorRT runs faster in INT8, and which of their inputs are quantized.

From NVIDIA's documentation of explicit quantization and the maintainers' answers: the inputs of convolutions, MatMuls
and average pools are quantized, never their outputs. Other nodes have no INT8 form of their own: TensorRT moves Q and
DQ through them (pools, reshapes, activations) or fuses them.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import Refused, is_op
from edgeprune.passes.placement import POOLS, eligible_nodes, operands, rank_of

MIN_CHANNELS = 16
"""With fewer input or output channels most of an INT8 tile is empty. The 3 or 4 channels of an image are packed."""

_IMAGE_CHANNELS = 4
_MATRIX_OPS = frozenset({"Gemm", "MatMul"})
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
COMPUTE_OPS = _MATRIX_OPS | _CONVOLUTIONS | POOLS
_PREPROCESSING = frozenset({"Add", "Cast", "Clip", "Div", "Mul", "Sub", "Transpose"})


def int8_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may be INT8 on TensorRT, or why not.

    Open dimensions leave more nodes undecided, and these are refused.
    """
    return eligible_nodes(model, _eligible)


def _eligible(node: ir.Node) -> bool | Refused:
    if not is_op(node, *COMPUTE_OPS):
        return Refused(f"{node.op_type} has no INT8 form of its own in TensorRT")
    data = operands(node)
    for value in (*data.activations, *(weight for weight, _ in data.weights)):
        if value.dtype != ir.DataType.FLOAT:
            kind = "of unknown type" if value.dtype is None else value.dtype.name
            return Refused(f"its input {value.name!r} is {kind}, not float32")
        if (producer := value.producer()) is not None and producer.op_type == "DequantizeLinear":
            return Refused(f"its input {value.name!r} is quantized already")
    if not data.activations:
        return Refused("all of its inputs are constant")
    if node.op_type in POOLS:
        return _enough("channels", _size(data.activations[0], 1))
    if node.op_type in _CONVOLUTIONS:
        return _convolution(node)
    return _matmul(node)


def _convolution(node: ir.Node) -> bool | Refused:
    activation, weight = node.inputs[0], node.inputs[1]
    if weight is None or weight.const_value is None or activation is None:
        return Refused("its weight is computed, not stored")
    group, shape = node.attributes.get_int("group", 1), [int(d) for d in weight.const_value.shape.numpy()]
    if node.op_type == "ConvTranspose":
        if group != 1:
            return Refused("TensorRT has no grouped INT8 ConvTranspose")
        return _enough("input channels", shape[0]) and _enough("output channels", shape[1])
    outputs, inputs = shape[0], shape[1] * group
    if shape[1] == 1 and group > 1:
        return _enough("input channels", inputs) and _enough("output channels", outputs)
    if group > 1:
        return _enough("input channels a group", shape[1]) and _enough("output channels a group", outputs // group)
    if inputs <= _IMAGE_CHANNELS and _is_graph_input(activation):
        return outputs % MIN_CHANNELS == 0 or Refused(
            f"it is a first layer with {outputs} output channels, no multiple of {MIN_CHANNELS}"
        )
    return _enough("input channels", inputs) and _enough("output channels", outputs)


def _matmul(node: ir.Node) -> bool | Refused:
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None or rank_of(a) < 2 or rank_of(b) < 2:
        return Refused("the shapes of its operands are unknown or have less than two axes")
    if a.const_value is not None:
        return Refused("its left operand is constant")
    if node.op_type == "Gemm":
        scaled = any(node.attributes.get_float(name, 1.0) != 1 for name in ("alpha", "beta"))
        if node.attributes.get_int("transA", 0) or scaled:
            return Refused("its transA, alpha or beta is not the default")
        if b.const_value is None:
            return Refused("its weight is computed, not stored")
    if b.const_value is not None and any(d != 1 for d in b.const_value.shape.numpy()[:-2]):
        return Refused("its weight has a batch axis, so its channels are not along one axis")
    if b.const_value is None and (blocker := _float_attention(node)) is not None:
        return blocker
    transposed = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    k, n = _size(a, -1), _size(b, -2 if transposed else -1)
    rows = [_size(a, axis) for axis in range(rank_of(a) - 1)] if b.const_value is not None else [_size(a, -2)]
    m = 1
    for size in rows:
        m *= size or 1  # an open size is a batch, which is 1 on edge devices
    if m == 1 or n == 1:
        return Refused("it multiplies a vector, which is bound by memory, not by arithmetic")
    return _enough("inputs (K)", k) and _enough("outputs (N)", n)


def _float_attention(node: ir.Node) -> Refused | None:
    """Refuse the MatMuls of an attention (Q·K and P·V) if an Add of a computed value precedes the Softmax."""
    softmax = _softmax_below(node) or _softmax_above(node)
    value = softmax.inputs[0] if softmax is not None else None
    while value is not None and (producer := value.producer()) is not None:
        if producer.op_type == "Add" and all(v is not None and v.const_value is None for v in producer.inputs):
            return Refused("it is part of an attention that adds a computed mask before its Softmax")
        if producer.op_type not in ("Add", "Mul", "Div", "Reshape", "Cast"):
            break
        value = next((v for v in producer.inputs if v is not None and v.const_value is None), None)
    return None


def _softmax_below(node: ir.Node, depth: int = 6) -> ir.Node | None:
    for _ in range(depth):
        consumers = node.outputs[0].consumers()
        if len(consumers) != 1:
            return None
        node = consumers[0]
        if node.op_type == "Softmax":
            return node
        if node.op_type not in ("Add", "Mul", "Div", "Reshape", "Cast", "Where"):
            return None
    return None


def _softmax_above(node: ir.Node) -> ir.Node | None:
    for value in node.inputs:
        producer = value.producer() if value is not None else None
        while producer is not None and producer.op_type in ("Cast", "Dropout", "Identity", "Reshape"):
            first = producer.inputs[0]
            producer = first.producer() if first is not None else None
        if producer is not None and producer.op_type == "Softmax":
            return producer
    return None


def _enough(what: str, size: int | None) -> bool | Refused:
    if size is None:
        return Refused(f"its number of {what} is not known")
    return size >= MIN_CHANNELS or Refused(f"it has {size} {what}, fewer than {MIN_CHANNELS}")


def _is_graph_input(value: ir.Value) -> bool:
    """Whether the value is an input of the model, or the result of elementwise preprocessing of one."""
    producer = value.producer()
    if producer is None:
        return value.is_graph_input()
    first = producer.inputs[0]
    return producer.op_type in _PREPROCESSING and first is not None and _is_graph_input(first)


def _size(value: ir.Value, axis: int) -> int | None:
    if value.shape is None or value.shape.rank() <= axis:
        return None
    size = value.shape[axis]
    return size if isinstance(size, int) else None
