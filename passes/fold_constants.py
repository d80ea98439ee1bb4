"""Compute every node whose inputs are all constants, once and for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.passes._edit import (
    ONNX_DOMAINS,
    constant_tensor,
    has_subgraph,
    int_attribute,
    ints_attribute,
    static_shape,
)

GROWTH_LIMIT_BYTES = 4 << 20
"""A constant that is larger than its inputs together is stored only up to this size: an Expand to a huge tensor stays a node."""

_NEVER = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Multinomial",
        "QuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Random, or carrying quantization that must stay visible."""

Array = NDArray[Any]


def fold_node(node: ir.Node, opset: int) -> list[Array] | None:
    """The outputs of a node whose inputs are all constants, or None if it is not one, or must not or cannot be computed.

    Args:
        node: a node of any domain.
        opset: version of the default domain.
    """
    if node.domain not in ONNX_DOMAINS or node.op_type in _NEVER or has_subgraph(node) or not node.outputs:
        return None
    tensors = []
    for value in node.inputs:
        tensor = constant_tensor(value)
        if value is not None and (tensor is None or tensor.dtype is ir.DataType.STRING):
            return None
        tensors.append(tensor)
    if not tensors and node.op_type != "Constant":
        return None
    input_bytes = sum(tensor.nbytes for tensor in tensors if tensor is not None)
    if not _small(node, input_bytes, tensors):
        return None
    arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
    direct = _DIRECT.get(node.op_type)
    results = direct(node, arrays, opset) if direct is not None else None
    if results is None:
        results = _by_reference(node, arrays, opset)
    if results is None or sum(r.nbytes for r in results) > max(input_bytes, GROWTH_LIMIT_BYTES):
        return None
    return results


def _small(node: ir.Node, input_bytes: int, tensors: list[ir.TensorProtocol | None]) -> bool:
    """Whether the results are known or likely not to exceed the limit, before anything is computed."""
    if node.op_type in ("Shape", "Size"):
        return True
    shapes = [static_shape(value) for value in node.outputs if value.name]
    if all(shape is not None for shape in shapes):
        item = max((t.dtype.itemsize for t in tensors if t is not None), default=8)
        return sum(math.prod(shape or ()) for shape in shapes) * item <= max(input_bytes, GROWTH_LIMIT_BYTES)
    if node.op_type in ("ConstantOfShape", "Expand", "Tile", "Range", "OneHot", "EyeLike", "Resize", "Upsample", "Pad"):
        target = tensors[-1] if node.op_type in ("ConstantOfShape", "Expand", "Tile") else None
        if target is None:
            return input_bytes <= 4096
        factor = math.prod(abs(int(d)) for d in target.numpy().reshape(-1))
        return factor * (input_bytes if node.op_type == "Tile" else 8) <= GROWTH_LIMIT_BYTES
    return True


def _axes(node: ir.Node, inputs: list[Array | None], rank: int) -> tuple[int, ...] | None:
    """Axes of Squeeze and Unsqueeze: an input from opset 13, an attribute before."""
    if len(inputs) > 1 and inputs[1] is not None:
        axes = tuple(int(a) for a in inputs[1].reshape(-1))
    else:
        given = ints_attribute(node, "axes")
        if given is None:
            return None
        axes = given
    return tuple(a % rank for a in axes)


def _squeeze(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x = inputs[0]
    assert x is not None
    axes = _axes(node, inputs, max(x.ndim, 1))
    return [x.squeeze() if axes is None else x.squeeze(axes)]


def _unsqueeze(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x = inputs[0]
    assert x is not None
    count = len(ints_attribute(node, "axes") or ()) if len(inputs) < 2 or inputs[1] is None else inputs[1].size
    axes = _axes(node, inputs, x.ndim + count)
    return None if axes is None else [np.expand_dims(x, axes)]


def _transpose(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    assert inputs[0] is not None
    return [inputs[0].transpose(ints_attribute(node, "perm"))]  # a view: nothing is copied until it is written out


def _reshape(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x = inputs[0]
    if x is None or opset < 5 or len(inputs) < 2 or inputs[1] is None:
        return None
    target = [int(d) for d in inputs[1]]
    if not int_attribute(node, "allowzero", 0):
        target = [x.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return [x.reshape(target)]


def _gather(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x, index = inputs
    assert x is not None
    assert index is not None
    return [np.asarray(np.take(x, index, axis=int_attribute(node, "axis", 0)))]


def _concat(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    return [np.concatenate([x for x in inputs if x is not None], axis=int_attribute(node, "axis", 0))]


def _slice(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x = inputs[0]
    if x is None or opset < 10 or inputs[1] is None or inputs[2] is None:
        return None
    starts, ends = inputs[1].tolist(), inputs[2].tolist()
    axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else list(range(len(starts)))
    steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step < 0 and end < -size:
            end = None  # numpy would count from the end
        index[axis] = slice(start, end, step)
    return [x[tuple(index)]]


def _cast(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    x, target = inputs[0], ir.DataType(node.attributes["to"].as_int())
    assert x is not None
    plain = (np.bool_, np.integer, np.floating)
    if target is ir.DataType.STRING or not any(np.issubdtype(d, k) for k in plain for d in (x.dtype,)):
        return None
    if np.issubdtype(x.dtype, np.floating) and np.issubdtype(target.numpy(), np.integer) and not np.isfinite(x).all():
        return None
    return [x.astype(target.numpy())] if target.itemsize >= 1 and target.numpy().kind in "biuf" else None


def _constant_of_shape(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
    assert inputs[0] is not None
    value = node.attributes.get("value")
    fill = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    return [np.full([int(d) for d in inputs[0]], fill.reshape(-1)[0], fill.dtype)]


def _binary(
    operation: Callable[[Array, Array], Array],
) -> Callable[[ir.Node, list[Array | None], int], list[Array] | None]:
    def evaluate(node: ir.Node, inputs: list[Array | None], opset: int) -> list[Array] | None:
        a, b = inputs
        if a is None or b is None or opset < 7:
            return None
        return [np.asarray(operation(a, b))]

    return evaluate


def _divide(a: Array, b: Array) -> Array:
    """ONNX divides integers toward zero, numpy toward minus infinity."""
    if not np.issubdtype(a.dtype, np.integer):
        return a / b
    quotient, remainder = np.divmod(a, b)
    return quotient + ((remainder != 0) & ((a < 0) != (b < 0)))


_DIRECT: dict[str, Callable[[ir.Node, list[Array | None], int], list[Array] | None]] = {
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _binary(_divide),
    "Equal": _binary(np.equal),
    "Gather": _gather,
    "Identity": lambda node, inputs, opset: [x for x in inputs if x is not None],
    "Mul": _binary(np.multiply),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": _binary(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""The operators of shape arithmetic, of which graphs hold thousands; all others go through ONNX's reference."""


_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the reference raises for operators, versions or types that it does not know; such a node simply stays."""


def _by_reference(node: ir.Node, arrays: list[Array | None], opset: int) -> list[Array] | None:
    """Evaluate a node with ONNX's reference implementation; None where it has none or refuses."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    names = [f"i{k}" if array is not None else "" for k, array in enumerate(arrays)]
    proto = ir.serde.serialize_node(node)
    del proto.input[:]
    proto.input.extend(names)
    outputs = [name for name in proto.output if name]
    graph = onnx.GraphProto(name="constant", node=[proto])
    for name, array in zip(names, arrays, strict=True):
        if array is not None:
            graph.input.append(
                onnx.helper.make_tensor_value_info(name, ir.DataType.from_numpy(array.dtype).value, array.shape)
            )
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    model = onnx.ModelProto(ir_version=10, graph=graph, opset_import=[onnx.OperatorSetIdProto(version=opset)])
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(
                None, {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
            )
    except _REFUSALS:
        return None
    return [np.asarray(r) for r in results] if all(isinstance(r, np.ndarray | np.generic) for r in results) else None
