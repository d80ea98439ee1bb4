"""What is known about integer tensors that carry shapes, and the rewrites that follow from it.

An exporter writes ``Reshape(x, Concat(Gather(Shape(x), 0), 196, 3, 6, 64))``. Where all dimensions are static such a
subgraph is a constant; where some are symbolic, the reshape's target can still be written as ``[0, 196, 3, 6, 64]``: a
constant that says *keep this axis* (0) or *whatever is left* (-1). A pass that changes sizes can then repair it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    constant,
    constant_target,
    constant_tensor,
    dim_keys,
    input_at,
    int_attribute,
    ints_attribute,
)

Element: TypeAlias = int | str | None
"""A known integer, the symbol of a dimension, or nothing known."""

Facts: TypeAlias = dict[ir.Value, tuple[Element, ...]]
"""For integer tensors of rank 0 or 1: what is known of each element."""

_MAX_ELEMENTS = 64
_TYPES = frozenset({ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL})


def facts_of(value: ir.Value | None, facts: Mapping[ir.Value, tuple[Element, ...]]) -> tuple[Element, ...] | None:
    """The elements of a small integer tensor, constant or derived; None if nothing is known."""
    if value is None:
        return None
    if value in facts:
        return facts[value]
    tensor = constant_tensor(value)
    if tensor is None or tensor.size > _MAX_ELEMENTS or len(tensor.shape) > 1:
        return None
    if tensor.dtype not in _TYPES:
        return None
    return tuple(int(x) for x in tensor.numpy().reshape(-1))


def derive(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    """What is known about the output of a node of shape arithmetic; None if it is none or nothing is known."""
    rule = _RULES.get(node.op_type)
    if rule is None or len(node.outputs) != 1:
        return None
    found = rule(node, facts)
    return found if found is not None and len(found) <= _MAX_ELEMENTS else None


def _shape(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    dims = dim_keys(node.inputs[0])
    if dims is None:
        return None
    end = node.attributes.get("end")
    return dims[int_attribute(node, "start", 0) : None if end is None else end.as_int()]


def _gather(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    data, index = facts_of(node.inputs[0], facts), constant(node.inputs[1])
    if data is None or index is None or index.ndim > 1:
        return None
    return tuple(data[int(i)] for i in index.reshape(-1) if -len(data) <= int(i) < len(data))


def _concat(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    """Unknown parts of known length count as unknown elements: one dynamic dimension does not hide the others."""
    result: list[Element] = []
    for value in node.inputs:
        part = facts_of(value, facts)
        if part is None:
            dims = dim_keys(value)
            if dims is None or len(dims) != 1 or not isinstance(dims[0], int) or dims[0] > _MAX_ELEMENTS:
                return None
            part = (None,) * dims[0]
        result.extend(part)
    return tuple(result)


def _slice(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
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


def _same(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    """Cast, Identity, Squeeze, Unsqueeze, Reshape: the same elements, as long as the result has rank 0 or 1."""
    data = facts_of(node.inputs[0], facts)
    shape = node.outputs[0].shape
    if shape is None or len(shape) > 1 or node.outputs[0].dtype not in _TYPES:
        return None
    return data


def _arithmetic(
    exact: Callable[[int, int], int | None], neutral: int
) -> Callable[[ir.Node, Facts], tuple[Element, ...] | None]:
    """Elementwise integer arithmetic, in which a symbol survives only beside the neutral element."""

    def rule(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
        left, right = (facts_of(value, facts) for value in node.inputs)
        if node.outputs[0].dtype not in _TYPES:
            return None
        pairs = _paired(left, right)
        if pairs is None:
            return None
        commutes = node.op_type in ("Add", "Mul")
        return tuple(
            exact(a, b)
            if isinstance(a, int) and isinstance(b, int)
            else a
            if b == neutral
            else b
            if commutes and a == neutral
            else None
            for a, b in pairs
        )

    return rule


def _equal(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    """1, 0, or None where it cannot be told; a dimension is never negative."""
    left, right = (facts_of(value, facts) for value in node.inputs)
    pairs = _paired(left, right)
    if pairs is None:
        return None
    return tuple(
        int(a == b)
        if isinstance(a, int) and isinstance(b, int)
        else 0
        if any(isinstance(e, int) and e < 0 for e in (a, b)) and None not in (a, b)
        else None
        for a, b in pairs
    )


def _where(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    condition, yes, no = (facts_of(value, facts) for value in node.inputs)
    pairs = _paired(yes, no)
    if pairs is None or condition is None or len(condition) not in (1, len(pairs)):
        return None
    conditions = condition * (len(pairs) // len(condition))
    return tuple(
        (a if a == b else None) if c is None else a if c else b for c, (a, b) in zip(conditions, pairs, strict=True)
    )


def _paired(
    left: tuple[Element, ...] | None, right: tuple[Element, ...] | None
) -> list[tuple[Element, Element]] | None:
    """The elements of two vectors side by side, one of length 1 repeated; None if they do not fit."""
    if not left or not right or (len(left) != len(right) and 1 not in (len(left), len(right))):
        return None
    length = max(len(left), len(right))
    return list(zip(left * (length // len(left)), right * (length // len(right)), strict=True))


def _quotient(a: int, b: int) -> int | None:
    if b == 0:
        return None
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


_RULES: dict[str, Callable[[ir.Node, Facts], tuple[Element, ...] | None]] = {
    "Add": _arithmetic(lambda a, b: a + b, 0),
    "Cast": _same,
    "Concat": _concat,
    "Div": _arithmetic(_quotient, 1),
    "Equal": _equal,
    "Gather": _gather,
    "Identity": _same,
    "Mul": _arithmetic(lambda a, b: a * b, 1),
    "Reshape": _same,
    "Shape": _shape,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _arithmetic(lambda a, b: a - b, 0),
    "Unsqueeze": _same,
    "Where": _where,
}


def reshape_target(node: ir.Node, facts: Facts) -> tuple[int, ...] | None:
    """A constant for a Reshape's computed target: 0 where an axis is kept, at most one -1; None if there is none."""
    target = facts_of(input_at(node, 1), facts)
    if target is None or int_attribute(node, "allowzero", 0):
        return None
    source = dim_keys(node.inputs[0]) or ()
    if 0 not in target:
        return constant_target(source, target)
    # A 0 that is there already means the same in the new target.
    written = constant_target(source, tuple(1 if element == 0 else element for element in target))
    if written is None:
        return None
    return tuple(0 if element == 0 else size for element, size in zip(target, written, strict=True))


def shape_from_facts(node: ir.Node, facts: Facts) -> tuple[Element, ...] | None:
    """The shape of the output of an Expand, ConstantOfShape or Resize, from what is known of its target."""
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
