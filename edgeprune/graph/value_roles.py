"""Which values are no activations, and so must not be rounded to 8 bits: positions, scales, sizes, states, thresholds.

The role of a value follows from who reads it, never from its name. The walk begins at such an input (the grid of a
GridSample, the scales of a Resize, an operand of a comparison) and goes back through arithmetic and moves, up to a
weighted layer: what that layer *reads* are activations, what it computes has the role. Sums along an axis and values
that are made from integers (positions of a Range) pass their role on to what is computed from them alone. A value that
arithmetic carries from an input of the model to an output is a state: it returns in the next run, so its error adds up.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from edgeprune.graph.edit import is_op

_ROLES: dict[str, dict[int, str]] = {
    "GridSample": {1: "sampling positions"},
    "RoiAlign": {1: "boxes"},
    "MaxRoiPool": {1: "boxes"},
    "DeformConv": {2: "sampling offsets"},
    "Resize": {1: "a region", 2: "scales", 3: "sizes"},
    "Upsample": {1: "scales"},
    "AffineGrid": {0: "an affine map", 1: "sizes"},
    "NonMaxSuppression": {0: "boxes", 1: "scores that are sorted"},
    "TopK": {0: "scores that are sorted"},
    "CumSum": {0: "terms of a running sum"},
    "Range": {0: "limits of a range", 1: "limits of a range", 2: "limits of a range"},
}
"""Operator -> input -> what the input is."""

_COMPARISONS = frozenset({"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_MOVES = frozenset({
    "Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Tile",
    "Transpose", "Unsqueeze",
})  # fmt: skip
_ARITHMETIC = _MOVES | {"Add", "Clip", "Div", "Max", "Min", "Mod", "Mul", "Neg", "Resize", "Sub", "Sum", "Where"}
_BOUNDED = frozenset({"HardSigmoid", "Sigmoid", "Tanh", "Softmax", "Exp", "Sqrt", "Pow", "Abs", "Floor", "Round"})
_WALKED = _ARITHMETIC | _BOUNDED
"""Back from a position up to the layer that predicts it."""

_INTEGER = "a number that becomes an integer"
_EXACT = ("a region of", "scales of", "sizes of", "limits of a range of", _INTEGER)
"""Roles of numbers that decide lengths: one that is slightly too small makes a result of another size."""

_FIRST_ONLY = _MOVES - {"Concat"} | {"Clip", "Resize", "Pow"}


def value_roles(graph: ir.Graph) -> dict[ir.Value, str]:
    """Value -> what it is, for values of the main graph that are no activations, constants included."""
    found: dict[ir.Value, str] = {}
    for node in reversed(graph):
        for index, role in _read_as(node):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None:
                found.setdefault(value, f"{role} of {node.name!r}")
        written = next((found[v] for v in node.outputs if v in found), None)
        if written is not None and is_op(node, *_WALKED):
            for value in _data(node):
                found.setdefault(value, written)
    for value in _states(graph):
        found.setdefault(value, "a state, which an output returns")
    for node in graph:
        if made := _made(node, found):
            for value in node.outputs:
                found.setdefault(value, made)
    return found


def is_exact(role: str) -> bool:
    """Whether values of this role must not be rounded to 16 bits either."""
    return role.startswith(_EXACT)


def _read_as(node: ir.Node) -> Iterator[tuple[int, str]]:
    if node.domain not in ("", "ai.onnx"):
        return
    yield from _ROLES.get(node.op_type, {}).items()
    if node.op_type == "Cast" and _is_rounded(node):
        yield 0, _INTEGER
    if node.op_type in _COMPARISONS and not any(_is_zero(v) for v in node.inputs):
        # The sign of a value survives, because zero is exact: a comparison with zero may be an activation function.
        yield from ((index, "an operand of the comparison") for index in range(2))


def _is_rounded(node: ir.Node) -> bool:
    """Whether floats become lengths or indices; 8-bit integers are an image."""
    source, result = node.inputs[0], node.outputs[0]
    from_float = source is not None and source.dtype is not None and source.dtype.is_floating_point()
    return from_float and result.dtype in (ir.DataType.INT32, ir.DataType.INT64)


def _data(node: ir.Node) -> Iterator[ir.Value]:
    """Inputs that have the role of the output."""
    if node.op_type in _FIRST_ONLY:
        inputs = node.inputs[:1]
    else:
        inputs = node.inputs[1:] if node.op_type == "Where" else node.inputs
    yield from (v for v in inputs if v is not None)


def _made(node: ir.Node, found: dict[ir.Value, str]) -> str | None:
    """The role of a node's results by what they are made from."""
    source = node.inputs[0] if node.inputs else None
    if is_op(node, "CumSum", "Range"):
        return f"positions that {node.name!r} counts"
    if is_op(node, "Cast") and source is not None and source.const_value is None:
        integer = source.dtype is not None and source.dtype.is_integer() and source.producer() is not None
        if integer and node.outputs[0].dtype == ir.DataType.FLOAT:
            return "a number made from integers"
    computed = [v for v in _data(node) if v.const_value is None] if is_op(node, *_ARITHMETIC) else []
    return found[computed[0]] if computed and all(v in found for v in computed) else None


def _states(graph: ir.Graph) -> set[ir.Value]:
    """Values on a path of arithmetic alone from an input of the model to an output of the same type and rank."""
    inputs = [v for v in graph.inputs if v.dtype == ir.DataType.FLOAT and v.name not in graph.initializers]
    if len(inputs) < 2 or len(graph.outputs) < 2:
        return set()  # a network with states has data and a result besides; this is a residual connection
    ahead: dict[ir.Value, set[ir.Value]] = {v: {v} for v in inputs}
    for node in graph:
        if is_op(node, *_ARITHMETIC):
            reached = {source for v in _data(node) for source in ahead.get(v, ())}
            ahead.update((v, reached) for v in node.outputs if reached)
    found: set[ir.Value] = set()
    for output in graph.outputs:
        sources = {source for source in ahead.get(output, ()) if _may_return(source, output)}
        todo = [output] if sources else []
        while todo:
            value = todo.pop()
            producer = value.producer()
            if value in found or producer is None:
                continue
            found.add(value)
            todo += [v for v in _data(producer) if ahead.get(v, set()) & sources]
    return found


def _may_return(source: ir.Value, output: ir.Value) -> bool:
    return source.shape is not None and output.shape is not None and source.shape.rank() == output.shape.rank()


def _is_zero(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None and not value.const_value.numpy().any()
