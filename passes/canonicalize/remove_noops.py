"""The input that a node, or a pair of nodes, returns unchanged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.graph import ONNX_DOMAINS, VIEWS, constant, dim_keys, input_at, ints_attribute, is_op


def passed_through(node: ir.Node) -> ir.Value | None:
    """The input that a node returns unchanged in value, type and shape; None if there is none, or it is not certain."""
    rule = _RULES.get(node.op_type)
    if rule is None or node.domain not in ONNX_DOMAINS or not node.inputs or node.inputs[0] is None:
        return None
    return rule(node)


def _same_shape(a: ir.Value, b: ir.Value, free: int = 0) -> bool:
    """Whether two shapes are provably equal, except for at most ``free`` unknown axes."""
    left, right = dim_keys(a), dim_keys(b)
    if left is None or right is None or len(left) != len(right):
        return False
    unknown = 0
    for x, y in zip(left, right, strict=True):
        if x is None or x != y:
            if isinstance(x, int) and isinstance(y, int):
                return False
            unknown += 1
    return unknown <= free


def _identity(node: ir.Node) -> ir.Value | None:
    return node.inputs[0]


def _concat(node: ir.Node) -> ir.Value | None:
    """The only part that is not of length 0."""
    axis = node.attributes.get_int("axis", 0)
    parts = [v for v in node.inputs if v is not None]
    empty = {v for v in parts if (keys := dim_keys(v)) and -len(keys) <= axis < len(keys) and keys[axis] == 0}
    rest = [v for v in parts if v not in empty]
    return rest[0] if len(rest) == 1 else None


def _single(node: ir.Node) -> ir.Value | None:
    """Sum, Mean, Min, Max of one input."""
    return node.inputs[0] if len(node.inputs) == 1 else None


def _dropout(node: ir.Node) -> ir.Value | None:
    mask = len(node.outputs) > 1 and bool(node.outputs[1].uses() or node.outputs[1].is_graph_output())
    training = input_at(node, 2)
    off = training is None or ((flag := constant(training)) is not None and not flag.any())
    legacy = node.attributes.get_int("is_test", 1) == 0
    return node.inputs[0] if off and not mask and not legacy else None


def _cast(node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    same = value is not None and value.dtype is not None and value.dtype.value == node.attributes.get_int("to", 0)
    return value if same else None


def _reshape(node: ir.Node) -> ir.Value | None:
    """Shapes that are equal except for one axis are equal: the number of elements is the same."""
    value = node.inputs[0]
    return value if value is not None and _same_shape(value, node.outputs[0], free=1) and _never_empty(value) else None


def _never_empty(value: ir.Value) -> bool:
    return all(d != 0 for d in dim_keys(value) or (0,))


def _expand(node: ir.Node) -> ir.Value | None:
    value = node.inputs[0]
    return value if value is not None and _same_shape(value, node.outputs[0]) else None


def _transpose(node: ir.Node) -> ir.Value | None:
    perm = ints_attribute(node, "perm")
    return node.inputs[0] if perm is not None and perm == tuple(range(len(perm))) else None


def _slice(node: ir.Node) -> ir.Value | None:
    steps = constant(input_at(node, 4)) if input_at(node, 4) is not None else np.ones(1)
    value = node.inputs[0]
    if value is None or steps is None or not (steps == 1).all():
        return None
    return value if _same_shape(value, node.outputs[0]) else None


def _pad(node: ir.Node) -> ir.Value | None:
    given = ints_attribute(node, "pads")
    pads = constant(input_at(node, 1)) if given is None else np.asarray(given)
    return node.inputs[0] if pads is not None and pads.size and not pads.any() else None


def _tile(node: ir.Node) -> ir.Value | None:
    repeats = constant(input_at(node, 1))
    return node.inputs[0] if repeats is not None and repeats.ndim == 1 and (repeats == 1).all() else None


def _neutral(element: int, *, commutes: bool) -> Callable[[ir.Node], ir.Value | None]:
    """The input of x + 0, x - 0, x * 1, x / 1, if the constant does not enlarge the shape."""

    def rule(node: ir.Node) -> ir.Value | None:
        sides = [(0, 1), (1, 0)] if commutes else [(0, 1)]
        for kept, other in sides:
            value, array = input_at(node, kept), constant(input_at(node, other))
            if value is None or array is None or array.size != 1 or array.reshape(-1)[0] != element:
                continue
            if value.shape is not None and array.ndim <= len(value.shape):
                return value
        return None

    return rule


_RULES: dict[str, Callable[[ir.Node], ir.Value | None]] = {
    "Add": _neutral(0, commutes=True),
    "Cast": _cast,
    "Concat": _concat,
    "Div": _neutral(1, commutes=False),
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _reshape,
    "Identity": _identity,
    "Max": _single,
    "Mean": _single,
    "Min": _single,
    "Mul": _neutral(1, commutes=True),
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": lambda node: node.inputs[0] if len(node.outputs) == 1 else None,
    "Squeeze": _expand,
    "Sub": _neutral(0, commutes=False),
    "Sum": _single,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _expand,
}


def inverse_pair(node: ir.Node) -> ir.Value | None:
    """The value two nodes before, if this node undoes the one before it: two inverse transposes or reshapes."""
    before = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
    if before is None or not before.inputs or before.inputs[0] is None:
        return None
    source = before.inputs[0]
    if is_op(node, "Transpose") and is_op(before, "Transpose"):
        first, second = ints_attribute(before, "perm"), ints_attribute(node, "perm")
        if first is not None and second is not None and all(first[p] == i for i, p in enumerate(second)):
            return source
    there_and_back = is_op(node, *VIEWS) and is_op(before, *VIEWS) and _same_shape(source, node.outputs[0], free=1)
    return source if there_and_back and _never_empty(source) else None
