"""Exact NumPy versions of the operators of shape arithmetic, and of operators that only move elements.

Graphs have thousands of them. Here are only operators whose result is exact in every bit: NumPy rounds transcendental
functions differently from the runtimes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import ints_attribute

Array: TypeAlias = NDArray[Any]
Inputs: TypeAlias = "list[Array | None]"
Evaluator: TypeAlias = "Callable[[ir.Node, Inputs, int], list[Array] | None]"


def _axes(node: ir.Node, inputs: Inputs, rank: int) -> tuple[int, ...] | None:
    """Axes of Squeeze and Unsqueeze: an input from opset 13, an attribute before."""
    given = inputs[1].reshape(-1) if len(inputs) > 1 and inputs[1] is not None else ints_attribute(node, "axes")
    return None if given is None else tuple(int(a) % rank for a in given)


def _squeeze(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x = inputs[0]
    assert x is not None
    axes = _axes(node, inputs, max(x.ndim, 1))
    return [x.squeeze() if axes is None else x.squeeze(axes)]


def _unsqueeze(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x = inputs[0]
    assert x is not None
    count = len(ints_attribute(node, "axes") or ()) if len(inputs) < 2 or inputs[1] is None else inputs[1].size
    axes = _axes(node, inputs, x.ndim + count)
    return None if axes is None else [np.expand_dims(x, axes)]


def _transpose(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    assert inputs[0] is not None
    return [inputs[0].transpose(ints_attribute(node, "perm"))]  # a view: nothing is copied before it is written


def _reshape(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x = inputs[0]
    if x is None or opset < 5 or len(inputs) < 2 or inputs[1] is None:
        return None
    target = [int(d) for d in inputs[1]]
    if not node.attributes.get_int("allowzero", 0):
        target = [x.shape[i] if d == 0 else d for i, d in enumerate(target)]
    return [x.reshape(target)]


def _gather(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x, index = inputs
    assert x is not None
    assert index is not None
    return [np.asarray(np.take(x, index, axis=node.attributes.get_int("axis", 0)))]


def _concat(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    return [np.concatenate([x for x in inputs if x is not None], axis=node.attributes.get_int("axis", 0))]


def _slice(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
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
            end = None  # NumPy would count from the end
        index[axis] = slice(start, end, step)
    return [x[tuple(index)]]


def _cast(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x, target = inputs[0], ir.DataType(node.attributes["to"].as_int())
    assert x is not None
    if target is ir.DataType.STRING or x.dtype.kind not in "biuf":
        return None
    if np.issubdtype(x.dtype, np.floating) and np.issubdtype(target.numpy(), np.integer) and not np.isfinite(x).all():
        return None
    return [x.astype(target.numpy())] if target.itemsize >= 1 and target.numpy().kind in "biuf" else None


def _constant_of_shape(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    assert inputs[0] is not None
    value = node.attributes.get("value")
    fill = np.zeros(1, np.float32) if value is None else value.as_tensor().numpy()
    return [np.full([int(d) for d in inputs[0]], fill.reshape(-1)[0], fill.dtype)]


def _expand(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x, shape = inputs
    if x is None or shape is None:
        return None
    target = np.broadcast_shapes(x.shape, tuple(int(d) for d in shape))
    return [np.ascontiguousarray(np.broadcast_to(x, target))]


def _mod(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    a, b = inputs
    if a is None or b is None or a.dtype.kind not in "iu" or node.attributes.get_int("fmod") or not b.all():
        return None
    return [np.asarray(np.mod(a, b))]


def _range(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    if any(x is None or x.dtype.kind not in "iu" for x in inputs):
        return None
    start, limit, delta = (int(x.reshape(-1)[0]) for x in inputs if x is not None)
    return [np.arange(start, limit, delta).astype(inputs[0].dtype)] if delta and inputs[0] is not None else None


def _shape(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    assert inputs[0] is not None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end")
    return [np.array(inputs[0].shape[start:end], np.int64)]


def _sqrt(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    x = inputs[0]
    return [np.sqrt(x)] if x is not None and x.dtype in (np.float32, np.float64) and not (x < 0).any() else None


def _where(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
    condition, x, y = inputs
    return None if condition is None or x is None or y is None else [np.where(condition, x, y)]


def _binary(operation: Callable[[Array, Array], Array]) -> Evaluator:
    def evaluate(node: ir.Node, inputs: Inputs, opset: int) -> list[Array] | None:
        a, b = inputs
        if a is None or b is None or opset < 7:
            return None
        return [np.asarray(operation(a, b))]

    return evaluate


def _divide(a: Array, b: Array) -> Array:
    """ONNX divides integers toward zero, NumPy toward minus infinity."""
    if not np.issubdtype(a.dtype, np.integer):
        return np.asarray(a / b)
    quotient, remainder = np.divmod(a, b)
    return np.asarray(quotient + ((remainder != 0) & ((a < 0) != (b < 0))))


NUMPY: dict[str, Evaluator] = {
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Div": _binary(_divide),
    "Equal": _binary(np.equal),
    "Expand": _expand,
    "Gather": _gather,
    "Identity": lambda node, inputs, opset: [x for x in inputs if x is not None],
    "Mod": _mod,
    "Mul": _binary(np.multiply),
    "Not": lambda node, inputs, opset: [np.logical_not(x) for x in inputs if x is not None],
    "Range": _range,
    "Reshape": _reshape,
    "Shape": _shape,
    "Slice": _slice,
    "Sqrt": _sqrt,
    "Squeeze": _squeeze,
    "Sub": _binary(np.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
"""Operator -> (node, input arrays, opset) -> output arrays, or None for a case that it does not support."""
