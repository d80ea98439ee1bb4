"""Known elements of integer tensors that contain shapes, and the shapes and targets that follow from them.

An exporter writes ``Reshape(x, Concat(Gather(Shape(x), 0), 196, 3, 6, 64))``. If all dimensions are static, this is a
constant. If some are symbolic, the target can still be the constant ``[0, 196, 3, 6, 64]``, where 0 means *keep this
axis* and -1 means *the rest*. A pass that changes sizes can then repair it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Dim, constant, constant_target, constant_tensor, dim_keys, input_at, ints_attribute

Elements: TypeAlias = tuple[Dim, ...]
"""Elements of an integer tensor: a known integer, the symbol of a dimension, or None if unknown."""

Facts: TypeAlias = dict[ir.Value, Elements]
"""The elements of integer tensors of rank 0 or 1."""

_Rule: TypeAlias = Callable[[ir.Node, Facts], Elements | None]

_MAX_ELEMENTS = 64
_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def facts_of(value: ir.Value | None, facts: Mapping[ir.Value, Elements]) -> Elements | None:
    """The elements of a small integer tensor, constant or derived; None if nothing is known."""
    if value is None:
        return None
    if value in facts:
        return facts[value]
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > _MAX_ELEMENTS or len(tensor.shape) > 1 or tensor.dtype not in _TYPES:
        return None
    return tuple(int(x) for x in tensor.numpy().reshape(-1))


def derive(node: ir.Node, facts: Facts) -> Elements | None:
    """The output elements of a node of shape arithmetic; None for other nodes, or if nothing is known."""
    rule = _RULES.get(node.op_type)
    if rule is None or len(node.outputs) != 1:
        return None
    found = rule(node, facts)
    return found if found is not None and len(found) <= _MAX_ELEMENTS else None


def _shape(node: ir.Node, facts: Facts) -> Elements | None:
    dims = dim_keys(node.inputs[0])
    return None if dims is None else dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end")]


def _gather(node: ir.Node, facts: Facts) -> Elements | None:
    data, index = facts_of(node.inputs[0], facts), constant(node.inputs[1])
    if data is None or index is None or index.ndim > 1:
        return None
    return tuple(data[int(i)] for i in index.reshape(-1) if -len(data) <= int(i) < len(data))


def _concat(node: ir.Node, facts: Facts) -> Elements | None:
    """An unknown part of known length becomes unknown elements: one dynamic dimension does not hide the others."""
    result: list[Dim] = []
    for value in node.inputs:
        part = facts_of(value, facts)
        if part is None:
            dims = dim_keys(value)
            if dims is None or len(dims) != 1 or not isinstance(dims[0], int) or dims[0] > _MAX_ELEMENTS:
                return None
            part = (None,) * dims[0]
        result.extend(part)
    return tuple(result)


def _slice(node: ir.Node, facts: Facts) -> Elements | None:
    data = facts_of(node.inputs[0], facts)
    if data is None:
        return None
    if len(node.inputs) == 1:
        starts, ends = ints_attribute(node, "starts"), ints_attribute(node, "ends")
        step = 1
    else:
        bounds = [constant(v) for v in node.inputs[1:3]]
        steps = constant(input_at(node, 4)) if input_at(node, 4) is not None else np.ones(1, np.int64)
        if any(b is None for b in bounds) or steps is None:
            return None
        starts, ends = (tuple(int(x) for x in b.reshape(-1)) for b in bounds if b is not None)
        step = int(steps.reshape(-1)[0])
    if starts is None or ends is None or len(starts) != 1 or step <= 0:
        return None
    return data[starts[0] : ends[0] : step]


def _same(node: ir.Node, facts: Facts) -> Elements | None:
    """Cast, Identity, Squeeze, Unsqueeze, Reshape: the same elements, if the result has rank 0 or 1."""
    data = facts_of(node.inputs[0], facts)
    shape = node.outputs[0].shape
    if shape is None or len(shape) > 1 or node.outputs[0].dtype not in _TYPES:
        return None
    return data


def _elementwise(combined: Callable[[Dim, Dim], Dim]) -> _Rule:
    def rule(node: ir.Node, facts: Facts) -> Elements | None:
        if node.outputs[0].dtype not in _TYPES:
            return None
        pairs = _paired(*(facts_of(value, facts) for value in node.inputs))
        return None if pairs is None else tuple(combined(a, b) for a, b in pairs)

    return rule


def _arithmetic(exact: Callable[[int, int], int | None], neutral: int, *, commutes: bool = False) -> _Rule:
    """Elementwise integer arithmetic; a symbol survives only with the neutral element."""

    def combined(a: Dim, b: Dim) -> Dim:
        if isinstance(a, int) and isinstance(b, int):
            return exact(a, b)
        return a if b == neutral else b if commutes and a == neutral else None

    return _elementwise(combined)


def _equal(a: Dim, b: Dim) -> Dim:
    """1, 0, or None if unknown; a dimension is never negative."""
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    return 0 if any(isinstance(e, int) and e < 0 for e in (a, b)) and None not in (a, b) else None


def _where(node: ir.Node, facts: Facts) -> Elements | None:
    condition, yes, no = (facts_of(value, facts) for value in node.inputs)
    pairs = _paired(yes, no)
    if pairs is None or condition is None or len(condition) not in (1, len(pairs)):
        return None
    conditions = condition * (len(pairs) // len(condition))
    return tuple(
        (a if a == b else None) if c is None else a if c else b for c, (a, b) in zip(conditions, pairs, strict=True)
    )


def _paired(left: Elements | None, right: Elements | None) -> list[tuple[Dim, Dim]] | None:
    """The elements of two vectors in pairs, one of length 1 repeated; None if the lengths do not match."""
    if not left or not right or (len(left) != len(right) and 1 not in (len(left), len(right))):
        return None
    length = max(len(left), len(right))
    return list(zip(left * (length // len(left)), right * (length // len(right)), strict=True))


def _quotient(a: int, b: int) -> int | None:
    if b == 0:
        return None
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_RULES: dict[str, _Rule] = {
    "Add": _arithmetic(lambda a, b: a + b, 0, commutes=True),
    "Cast": _same,
    "Concat": _concat,
    "Div": _arithmetic(_quotient, 1),
    "Equal": _elementwise(_equal),
    "Gather": _gather,
    "Identity": _same,
    "Mul": _arithmetic(lambda a, b: a * b, 1, commutes=True),
    "Reshape": _same,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _arithmetic(lambda a, b: a - b, 0),
    "Unsqueeze": _same,
    "Where": _where,
}


def reshape_target(node: ir.Node, facts: Facts) -> tuple[int, ...] | None:
    """A constant for a Reshape's computed target: 0 for an axis that is kept, at most one -1; None if there is none."""
    target = facts_of(input_at(node, 1), facts)
    if target is None or node.attributes.get_int("allowzero"):
        return None
    source = dim_keys(node.inputs[0]) or ()
    if 0 not in target:
        return constant_target(source, target)
    # A 0 in the old target means the same in the new one.
    written = constant_target(source, tuple(1 if element == 0 else element for element in target))
    if written is None:
        return None
    return tuple(0 if element == 0 else size for element, size in zip(target, written, strict=True))


def shape_from_facts(node: ir.Node, facts: Facts) -> Elements | None:
    """The output shape of an Expand, ConstantOfShape or Resize, from the known elements of its target."""
    if node.op_type == "ConstantOfShape":
        return facts_of(node.inputs[0], facts)
    if node.op_type == "Resize" and len(node.inputs) == 4 and "axes" not in node.attributes:
        return facts_of(node.inputs[3], facts)
    if node.op_type != "Expand":
        return None
    target, source = facts_of(node.inputs[1], facts), dim_keys(node.inputs[0])
    if target is None or source is None:
        return None
    rank = max(len(target), len(source))
    left, right = (1,) * (rank - len(source)) + source, (1,) * (rank - len(target)) + target
    return tuple(a if b == 1 or (isinstance(a, int) and a > 1) else b for a, b in zip(left, right, strict=True))
