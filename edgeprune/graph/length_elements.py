"""The elements of small integer tensors that shape arithmetic computes: numbers, or lengths as text.

An exporter writes ``Reshape(x, Concat(Gather(Shape(x), 0), 196, 3, 6, 64))``. If a length is open, the elements that
contain it are polynomials of it (:mod:`edgeprune.lengths`), and the others are still numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import lengths
from edgeprune.graph.edit import ONNX_DOMAINS, constant, constant_tensor, dim_keys, input_at, ints_attribute
from edgeprune.lengths import Dim, equal, greater, mod, quotient, truncated

Elements: TypeAlias = NDArray[np.object_]
"""A tensor of lengths; an element is None if nothing is known of it."""

Memo: TypeAlias = dict[ir.Value, "Elements | None"]

_MAX_ELEMENTS = 64
_MAX_DEPTH = 60
"""Shape arithmetic is shorter."""
_INTEGERS = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})


def elements_of(value: ir.Value | None, memo: Memo, depth: int = 0) -> Elements | None:
    """The elements of a small tensor, constant or computed from lengths; None if nothing is known.

    Args:
        value: any value.
        memo: what was found before; it grows.
        depth: of the search.
    """
    if value is None:
        return None
    if value in memo:
        return memo[value]
    memo[value] = None
    memo[value] = _constant(value) if constant_tensor(value) is not None else _computed(value, memo, depth)
    return memo[value]


def array_of(items: list[Dim], shape: tuple[int, ...]) -> Elements:
    """Elements in a shape."""
    out = np.empty(len(items), dtype=object)
    out[:] = items
    return out.reshape(shape)


def _constant(value: ir.Value) -> Elements | None:
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > _MAX_ELEMENTS or tensor.dtype not in _INTEGERS | _FLOATS:
        return None
    return array_of([_number(x) for x in tensor.numpy().reshape(-1).tolist()], tuple(tensor.shape.numpy()))


def _number(x: float | bool) -> Dim:
    if not math.isfinite(x):
        return None
    exact = Fraction(x)
    return int(exact) if exact.denominator == 1 else str(exact)


def _computed(value: ir.Value, memo: Memo, depth: int) -> Elements | None:
    node = value.producer()
    rule = _RULES.get(node.op_type) if node is not None and node.domain in ONNX_DOMAINS else None
    if node is None or rule is None or len(node.outputs) != 1 or depth > _MAX_DEPTH:
        return None
    if node.op_type != "Shape" and value.dtype is not None and value.dtype not in _INTEGERS | _FLOATS:
        return None
    try:
        found = rule(node, lambda k: elements_of(input_at(node, k), memo, depth + 1))
    except (ValueError, IndexError, TypeError, ZeroDivisionError):
        return None
    return found if found is not None and found.size <= _MAX_ELEMENTS else None


_Read: TypeAlias = Callable[[int], "Elements | None"]
_Rule: TypeAlias = Callable[[ir.Node, _Read], "Elements | None"]


def _shape(node: ir.Node, read: _Read) -> Elements | None:
    dims = dim_keys(node.inputs[0])
    if dims is None:
        return None
    chosen = dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end")]
    return array_of(list(chosen), (len(chosen),))


def _size(node: ir.Node, read: _Read) -> Elements | None:
    dims = dim_keys(node.inputs[0])
    return None if dims is None else array_of([lengths.product(dims)], ())


def _gather(node: ir.Node, read: _Read) -> Elements | None:
    data, index = read(0), constant(node.inputs[1])
    if data is None or index is None:
        return None
    return np.asarray(np.take(data, index, axis=node.attributes.get_int("axis", 0)), dtype=object)


def _concat(node: ir.Node, read: _Read) -> Elements | None:
    """An unknown part of known length becomes unknown elements: one dynamic dimension does not hide the others."""
    parts = []
    for k, value in enumerate(node.inputs):
        part = read(k)
        if part is None:
            dims = dim_keys(value)
            if dims is None or len(dims) != 1 or not isinstance(dims[0], int) or dims[0] > _MAX_ELEMENTS:
                return None
            part = array_of([None] * dims[0], (dims[0],))
        parts.append(part)
    return np.asarray(np.concatenate(parts, axis=node.attributes.get_int("axis", 0)), dtype=object)


def _slice(node: ir.Node, read: _Read) -> Elements | None:
    data = read(0)
    if data is None:
        return None
    if len(node.inputs) == 1:
        starts, ends, over = (ints_attribute(node, name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        bounds = [constant(input_at(node, k)) for k in range(1, 5)]
        starts, ends, over, steps = (None if b is None else tuple(int(x) for x in b.reshape(-1)) for b in bounds)
        if any(input_at(node, k) is not None and bounds[k - 1] is None for k in range(1, 5)):
            return None
    if starts is None or ends is None:
        return None
    selection = [slice(None)] * data.ndim
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, step = over[k] if over else k, steps[k] if steps else 1
        size = data.shape[axis]
        low = max(start, -size) if step > 0 else start
        selection[axis] = slice(low, None if step < 0 and end < -size else end, step)
    return data[tuple(selection)]


def _view(node: ir.Node, read: _Read) -> Elements | None:
    """Squeeze, Unsqueeze, Reshape, Flatten: the same elements in the shape of the result."""
    data = read(0)
    dims = dim_keys(node.outputs[0])
    if data is None:
        return None
    if dims is not None and all(isinstance(d, int) for d in dims):
        return data.reshape([int(str(d)) for d in dims])
    target = read(1)
    if node.op_type == "Reshape" and target is not None and all(isinstance(t, int) for t in target.reshape(-1)):
        return data.reshape([int(t) for t in target.reshape(-1)])
    return data.reshape(-1) if dims is not None and len(dims) == 1 else None


def _transpose(node: ir.Node, read: _Read) -> Elements | None:
    data = read(0)
    return None if data is None else np.transpose(data, ints_attribute(node, "perm"))


def _same(node: ir.Node, read: _Read) -> Elements | None:
    return read(0)


def _cast(node: ir.Node, read: _Read) -> Elements | None:
    """To an integer, a length is rounded down; it is not negative."""
    data, dtype = read(0), node.outputs[0].dtype
    if data is None or dtype is None:
        return None
    return _mapped(lambda a: truncated(a) if dtype in _INTEGERS else a, data)


def _mapped(function: Callable[..., Any], *operands: Elements | None) -> Elements | None:
    """A function of every element of tensors that are broadcast; unknown elements give unknown ones."""
    if any(o is None for o in operands):
        return None
    given = np.broadcast_arrays(*[o for o in operands if o is not None])
    rows = zip(*(a.reshape(-1) for a in given), strict=True)
    return array_of([function(*row) for row in rows], given[0].shape)


def _elementwise(function: Callable[..., Dim]) -> _Rule:
    return lambda node, read: _mapped(function, *(read(k) for k in range(len(node.inputs))))


def _div(node: ir.Node, read: _Read) -> Elements | None:
    whole = node.outputs[0].dtype in _INTEGERS or (node.inputs[0] is not None and node.inputs[0].dtype in _INTEGERS)
    return _mapped(quotient if whole else lengths.divide, read(0), read(1))


def _where(node: ir.Node, read: _Read) -> Elements | None:
    def chosen(c: Dim, a: Dim, b: Dim) -> Dim:
        return (a if a == b else None) if c is None else a if c else b

    return _mapped(chosen, read(0), read(1), read(2))


def _filled(node: ir.Node, read: _Read) -> Elements | None:
    """ConstantOfShape."""
    target, fill = read(0), node.attributes.get("value")
    if target is None or not all(isinstance(t, int) for t in target.reshape(-1)):
        return None
    shape = tuple(int(t) for t in target.reshape(-1))
    if math.prod(shape) > _MAX_ELEMENTS:
        return None
    value = 0 if fill is None else fill.value.numpy().reshape(-1)[0].item()
    return array_of([_number(value)] * math.prod(shape), shape)


def _expand(node: ir.Node, read: _Read) -> Elements | None:
    data, target = read(0), read(1)
    if data is None or target is None or not all(isinstance(t, int) for t in target):
        return None
    shape = np.broadcast_shapes(data.shape, tuple(int(t) for t in target))
    return None if math.prod(shape) > _MAX_ELEMENTS else np.broadcast_to(data, shape).copy()


def _reduce(function: Callable[[list[Dim]], Dim]) -> _Rule:
    """A reduction of a vector to one element."""

    def rule(node: ir.Node, read: _Read) -> Elements | None:
        data = read(0)
        if data is None or data.ndim != 1:
            return None
        return array_of([function(list(data))], (1,) if node.attributes.get_int("keepdims", 1) else ())

    return rule


_RULES: dict[str, _Rule] = {
    "Add": _elementwise(lengths.add),
    "Cast": _cast,
    "Ceil": _elementwise(lengths.ceil),
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _div,
    "Equal": _elementwise(equal),
    "Expand": _expand,
    "Floor": _elementwise(lengths.floor),
    "Gather": _gather,
    "Greater": _elementwise(greater),
    "Identity": _same,
    "Less": _elementwise(lambda a, b: greater(b, a)),
    "Max": _elementwise(lambda *dims: lengths.largest(dims)),
    "Min": _elementwise(lambda *dims: lengths.smallest(dims)),
    "Mod": _elementwise(mod),
    "Mul": _elementwise(lengths.multiply),
    "Neg": _elementwise(lambda a: lengths.multiply(a, -1)),
    "Not": _elementwise(lambda a: None if a is None else int(not a)),
    "ReduceMax": _reduce(lengths.largest),
    "ReduceMin": _reduce(lengths.smallest),
    "ReduceProd": _reduce(lengths.product),
    "ReduceSum": _reduce(lambda dims: functools.reduce(lengths.add, dims)),
    "Reshape": _view,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _view,
    "Sub": _elementwise(lengths.subtract),
    "Transpose": _transpose,
    "Unsqueeze": _view,
    "Where": _where,
}
