"""Shapes of results as lengths of the operands, for operators whose open lengths ONNX's inference loses.

ONNX calculates with numbers only: behind a strided convolution, a concatenation or a Reshape with a computed target, an
open length is unknown to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import onnx_ir as ir

from edgeprune import lengths
from edgeprune.graph.edit import dim_keys, input_at, ints_attribute, own_symbol
from edgeprune.graph.length_elements import Memo, elements_of
from edgeprune.graph.window_rules import conv, conv_transpose, pool
from edgeprune.lengths import Dim

Dims: TypeAlias = tuple[Dim, ...]
Rule: TypeAlias = Callable[[ir.Node, Memo], "Dims | None"]
_FAR = 1 << 31
"""A Slice that ends behind this ends with its axis."""


def rule_for(op_type: str) -> Rule | None:
    """The rule of an operator for the shape of its first result, if it has one."""
    return _RULES.get(op_type)


def _vector(node: ir.Node, index: int, memo: Memo) -> list[Dim] | None:
    found = elements_of(input_at(node, index), memo)
    return None if found is None else list(found.reshape(-1))


def _reshape(node: ir.Node, memo: Memo) -> Dims | None:
    """An unknown target still gives the rank."""
    source, target = dim_keys(node.inputs[0]), _vector(node, 1, memo)
    if target is None and len(node.inputs) > 1:
        count = dim_keys(node.inputs[1]) or ()
        return (None,) * count[0] if len(count) == 1 and isinstance(count[0], int) else None
    if target is None and "shape" in node.attributes:
        target = list(ints_attribute(node, "shape") or ())
    if source is None or target is None:
        return None
    zero = bool(node.attributes.get_int("allowzero", 0))
    dims: list[Dim] = [source[i] if d == 0 and not zero and i < len(source) else d for i, d in enumerate(target)]
    if dims.count(-1) == 1:
        # Kept axes cancel, whether known or not.
        kept = [i for i, d in enumerate(target) if d == 0 and not zero]
        whole = lengths.product([d for i, d in enumerate(source) if i not in kept])
        others = lengths.product([d for i, d in enumerate(dims) if i not in kept and d != -1])
        dims[dims.index(-1)] = lengths.divide(whole, others) if lengths.is_divisible(whole, others) else None
    elif dims.count(None) == 1:
        whole, others = lengths.product(source), lengths.product([d for d in dims if d is not None])
        dims[dims.index(None)] = lengths.divide(whole, others) if lengths.is_divisible(whole, others) else None
    return tuple(dims)


def _flatten(node: ir.Node, memo: Memo) -> Dims | None:
    source = dim_keys(node.inputs[0])
    if source is None:
        return None
    axis = node.attributes.get_int("axis", 1)
    axis += len(source) if axis < 0 else 0
    return (lengths.product(source[:axis]), lengths.product(source[axis:]))


def _same(node: ir.Node, memo: Memo) -> Dims | None:
    """ONNX has no inference for some normalizations."""
    return dim_keys(node.inputs[0])


def _resize(node: ir.Node, memo: Memo) -> Dims | None:
    source = dim_keys(node.inputs[0])
    if source is None:
        return None
    over, dims = [axis % len(source) for axis in ints_attribute(node, "axes") or range(len(source))], list(source)
    sizes = _vector(node, 3, memo) if len(node.inputs) == 4 else None
    if sizes is not None and len(sizes) == len(over):
        for axis, size in zip(over, sizes, strict=True):
            dims[axis] = size
        return (
            tuple(dims) if (node.attributes.get_string("keep_aspect_ratio_policy") or "stretch") == "stretch" else None
        )
    scales = _vector(node, len(node.inputs) - 1, memo) if len(node.inputs) in (2, 3) else None
    if scales is None or len(scales) != len(over):
        return None
    for axis, scale in zip(over, scales, strict=True):
        dims[axis] = lengths.floor(lengths.multiply(dims[axis], scale))
    return tuple(dims)


def _concat(node: ir.Node, memo: Memo) -> Dims | None:
    parts = [dim_keys(value) for value in node.inputs]
    known = [p for p in parts if p is not None]
    if not known or len({len(p) for p in known}) != 1:
        return None
    rank = len(known[0])
    axis = node.attributes.get_int("axis", 1) % rank
    dims: list[Dim] = []
    for k in range(rank):
        column = [p[k] for p in known]
        if k == axis:
            total: Dim = 0 if len(known) == len(parts) else None
            for d in column:
                total = lengths.add(total, d)
            dims.append(total)
        else:
            dims.append(next((d for d in column if isinstance(d, int)), column[0]))
    return tuple(dims)


def _broadcast(node: ir.Node, memo: Memo) -> Dims | None:
    shapes = [dim_keys(value) for value in node.inputs if value is not None]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes) or not known:
        return None
    return _joined(known)


def _joined(shapes: Sequence[Dims]) -> Dims:
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    return tuple(lengths.broadcast(column) for column in zip(*padded, strict=True))


def _matmul(node: ir.Node, memo: Memo) -> Dims | None:
    a, b = dim_keys(node.inputs[0]), dim_keys(node.inputs[1])
    if a is None or b is None:
        return None
    rows, columns = (a[-2:-1] if len(a) > 1 else ()), (b[-1:] if len(b) > 1 else ())
    return (*_joined([a[:-2], b[:-2]]), *rows, *columns)


def _expand(node: ir.Node, memo: Memo) -> Dims | None:
    source, target = dim_keys(node.inputs[0]), _vector(node, 1, memo)
    if source is None or target is None:
        return None
    return _joined([source, tuple(target)])


def _tile(node: ir.Node, memo: Memo) -> Dims | None:
    source, times = dim_keys(node.inputs[0]), _vector(node, 1, memo)
    if source is None or times is None or len(times) != len(source):
        return None
    return tuple(lengths.multiply(d, t) for d, t in zip(source, times, strict=True))


def _pad(node: ir.Node, memo: Memo) -> Dims | None:
    source = dim_keys(node.inputs[0])
    pads: Sequence[Dim] | None = ints_attribute(node, "pads") or _vector(node, 1, memo)
    if source is None or pads is None:
        return None
    over = _vector(node, 3, memo) if input_at(node, 3) is not None else list(range(len(source)))
    if over is None or len(pads) != 2 * len(over):
        return None
    dims = list(source)
    for j, axis in enumerate(over):
        k = int(str(axis)) % len(source)
        dims[k] = lengths.add(dims[k], lengths.add(pads[j], pads[len(over) + j]))
    return tuple(dims)


def _slice(node: ir.Node, memo: Memo) -> Dims | None:
    source = dim_keys(node.inputs[0])
    if source is None:
        return None
    given: list[Any]
    if len(node.inputs) == 1:
        given = [ints_attribute(node, name) for name in ("starts", "ends", "axes")] + [None]
    else:
        given = [_vector(node, k, memo) if input_at(node, k) is not None else None for k in range(1, 5)]
        if any(g is None and input_at(node, k) is not None for k, g in enumerate(given[2:], 3)):
            return None
    starts, ends, over, steps = given
    dims = list(source)
    if starts is None or ends is None:
        for axis in range(len(source)) if over is None else over:
            dims[int(axis) % len(source)] = None
        return tuple(dims)
    for j, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = over[j] if over is not None else j
        k = int(axis) % len(source)
        dims[k] = _selected(source[k], start, end, 1 if steps is None else steps[j])
    return tuple(dims)


def _selected(d: Dim, start: Dim, end: Dim, step: Dim) -> Dim:
    """The number of positions that a Slice takes of an axis."""
    if not isinstance(step, int) or step == 0:
        return None
    if step < 0:
        whole = isinstance(start, int) and isinstance(end, int) and (start == -1 or start >= _FAR) and end <= -_FAR
        return lengths.floor_divide(lengths.add(d, -step - 1), -step) if whole else None
    low, high = _bound(d, start), _bound(d, end)
    taken = lengths.subtract(high, low)
    return lengths.floor_divide(lengths.add(taken, step - 1), step) if step > 1 else taken


def _bound(d: Dim, bound: Dim) -> Dim:
    """A bound of a Slice as a position from 0 to the length of the axis."""
    if isinstance(bound, int):
        if bound >= _FAR:
            return d
        if bound < 0:
            moved = lengths.add(d, bound)
            return moved if lengths.at_least(moved, 0) else None if moved is None else lengths.largest([moved, 0])
        return bound if lengths.at_least(d, bound) else lengths.smallest([d, bound])
    return d if bound == d else lengths.smallest([d, bound])


def _filled(node: ir.Node, memo: Memo) -> Dims | None:
    target = _vector(node, 0, memo)
    return None if target is None else tuple(target)


def _range(node: ir.Node, memo: Memo) -> Dims | None:
    start, limit, delta = (_vector(node, k, memo) for k in range(3))
    if start is None or limit is None or delta is None or not isinstance(delta[0], int) or delta[0] <= 0:
        return (None,)
    return (lengths.ceil(lengths.divide(lengths.subtract(limit[0], start[0]), delta[0])),)


def _depth_to_space(node: ir.Node, memo: Memo) -> Dims | None:
    source, block = dim_keys(node.inputs[0]), node.attributes.get_int("blocksize", 1)
    if source is None or len(source) != 4:
        return None
    n, c, h, w = source
    if node.op_type == "DepthToSpace":
        return (n, lengths.floor_divide(c, block * block), lengths.multiply(h, block), lengths.multiply(w, block))
    return (n, lengths.multiply(c, block * block), lengths.floor_divide(h, block), lengths.floor_divide(w, block))


def _top_k(node: ir.Node, memo: Memo) -> Dims | None:
    source, taken = dim_keys(node.inputs[0]), input_at(node, 1)
    axis = node.attributes.get_int("axis", -1)
    if source is None or taken is None or not -len(source) <= axis < len(source):
        return None
    known = elements_of(taken, memo)
    dims = list(source)
    dims[axis] = known.reshape(-1)[0] if known is not None and known.size == 1 else None
    dims[axis] = own_symbol(node.outputs[0], axis % len(source)) if dims[axis] is None else dims[axis]
    return tuple(dims)


def _compress(node: ir.Node, memo: Memo) -> Dims | None:
    """All that one condition selects has one length."""
    source, condition = dim_keys(node.inputs[0]), input_at(node, 1)
    if source is None or condition is None:
        return None
    count = own_symbol(condition, -1)
    if "axis" not in node.attributes:
        return (count,)
    dims = list(source)
    dims[node.attributes.get_int("axis", 0)] = count
    return tuple(dims)


def _non_zero(node: ir.Node, memo: Memo) -> Dims | None:
    source = dim_keys(node.inputs[0])
    return None if source is None or node.inputs[0] is None else (len(source), own_symbol(node.inputs[0], -1))


_ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where", "And", "Or", "Xor"),
    *("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "PRelu", "BitShift"),
)
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _broadcast),
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), pool),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _depth_to_space),
    **dict.fromkeys(("GroupNormalization", "MeanVarianceNormalization"), _same),
    "Compress": _compress,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Expand": _expand,
    "Flatten": _flatten,
    "MatMul": _matmul,
    "NonZero": _non_zero,
    "Pad": _pad,
    "Range": _range,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Tile": _tile,
    "TopK": _top_k,
    "Upsample": _resize,
}
