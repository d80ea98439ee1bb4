"""Where the samples of a node's outputs are, by operator: products, normalizations, reductions and elementwise ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import onnx_ir as ir

from edgeprune.executor import batch_views as views
from edgeprune.executor.batch_views import axes_of
from edgeprune.executor.batch_work import Axis, BatchWork
from edgeprune.graph import static_shape

Rule: TypeAlias = Callable[[BatchWork, ir.Node], Axis | Sequence[Axis]]

_FIRST = {
    *(
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
    ),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth", "LRN"),
    "GridSample",
}
"""Operators whose first axis is the batch."""

_ALONG = {
    "Softmax": -1, "LogSoftmax": -1, "Hardmax": -1, "TopK": -1, "GatherElements": 0, "LpNormalization": -1, "Split": 0,
}  # fmt: skip
"""Operators that work along the axis of an attribute, with its default, and keep the axes."""


def elementwise(work: BatchWork, node: ir.Node) -> Axis:
    """Broadcast from the right; what does not depend on samples has length 1 where they are."""
    if node.op_type not in ELEMENTWISE:
        raise work.refuse(node, "is not known")
    shapes = [work.shape(node, v) for v in node.inputs if v is not None]
    rank = max(map(len, shapes))
    places = {work.axes[v] + rank - len(static_shape(v) or ()) for v in node.inputs if work.axis(v) is not None}  # type: ignore[index, operator]
    if len(places) != 1:
        raise work.refuse(node, "has samples on different axes")
    (place,) = places
    for value in node.inputs:
        if value is None or work.axis(value) is not None:
            continue
        shape = work.shape(node, value)
        at = place - rank + len(shape)
        if at >= 0 and shape[at] != 1:
            raise work.refuse(node, "meets a constant that has an element for every sample")
    return int(place)


def _first(work: BatchWork, node: ir.Node) -> Axis:
    value = node.inputs[0]
    if work.axis(value) != 0 or any(work.axis(v) not in (None, 0) for v in node.inputs):
        raise work.refuse(node, "has the samples on another axis than the first")
    if node.op_type != "GridSample" and any(work.axis(v) is not None for v in node.inputs[1:]):
        raise work.refuse(node, "has weights that depend on samples")
    return 0


def _along(work: BatchWork, node: ir.Node) -> Axis:
    value = node.inputs[0]
    shape, axis = work.shape(node, value), work.axis(value)
    along = node.attributes.get_int("axis", _ALONG[node.op_type]) % len(shape)
    old = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and work.model.opset_imports.get("", 1) < 13
    if axis is None or along == axis or (old and axis >= along):
        raise work.refuse(node, "works along the axis of the samples")
    if any(work.axis(v) not in (None, axis) for v in node.inputs[1:]):
        raise work.refuse(node, "has samples on different axes")
    return axis


def _normalized(work: BatchWork, node: ir.Node) -> Axis:
    _, axis, shape = work.data(node)
    if axis >= node.attributes.get_int("axis", -1) % len(shape):
        raise work.refuse(node, "works along the axis of the samples")
    return axis


def _reduced(work: BatchWork, node: ir.Node) -> Axis:
    _, axis, shape = work.data(node)
    if node.op_type in ("ArgMax", "ArgMin"):
        given: list[int] | None = [node.attributes.get_int("axis", 0)]
    else:
        given = axes_of(node)
    over = {a % len(shape) for a in given or range(len(shape))}
    if axis in over:
        raise work.refuse(node, "reduces the axis of the samples")
    return axis if node.attributes.get_int("keepdims", 1) else axis - sum(a < axis for a in over)


def _matmul(work: BatchWork, node: ir.Node) -> Axis:
    shapes = [work.shape(node, v) for v in node.inputs]
    places = []
    for number, value in enumerate(node.inputs[:2]):
        axis, rank = work.axis(value), len(shapes[number])
        if axis is None:
            continue
        behind = rank - axis
        if rank < 2 or behind == 1 or (behind == 2 and number == 1):
            raise work.refuse(node, "sums over samples")
        places.append(behind)
    other = next((s for s, v in zip(shapes, node.inputs, strict=True) if work.axis(v) is None), None)
    behind = places[0]
    if len(set(places)) != 1 or (other is not None and behind > 2 and len(other) >= behind and other[-behind] != 1):
        raise work.refuse(node, "has samples on different axes")
    return max(map(len, shapes)) - behind


def _gemm(work: BatchWork, node: ir.Node) -> Axis:
    if work.data(node)[1] != 0 or node.attributes.get_int("transA", 0) != 0:
        raise work.refuse(node, "sums over samples")
    return 0


def _einsum(work: BatchWork, node: ir.Node) -> Axis:
    left, _, right = node.attributes.get_string("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    letters = {
        t[a] for t, v in zip(terms, node.inputs, strict=True) if (a := work.axis(v)) is not None and "." not in t
    }
    constants = "".join(t for t, v in zip(terms, node.inputs, strict=True) if work.axis(v) is None)
    if len(letters) != 1 or "." in left or (letter := next(iter(letters))) not in right or letter in constants:
        raise work.refuse(node, "mixes samples")
    return right.index(letter)


def _recurrent(work: BatchWork, node: ir.Node) -> Sequence[Axis]:
    _, axis, _ = work.data(node)
    if axis != 1 or node.attributes.get_int("layout", 0) != 0 or any(node.inputs[4:]):
        raise work.refuse(node, "has the samples on another axis than the second, or states that are given")
    return [2, 1, 1][: len(node.outputs)]


def _same(work: BatchWork, node: ir.Node) -> Axis:
    return work.data(node)[1]


_REDUCERS = [
    f"Reduce{n}" for n in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")
]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_FIRST, _first),
    **dict.fromkeys(_ALONG, _along),
    **dict.fromkeys((*_REDUCERS, "ArgMax", "ArgMin"), _reduced),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalized),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Clip", "Dropout"), _same),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent),
    "Reshape": views.reshape,
    "Squeeze": views.squeeze,
    "Unsqueeze": views.unsqueeze,
    "Flatten": views.flatten,
    "Transpose": views.transpose,
    "Concat": views.concat,
    "Slice": views.slices,
    "Pad": views.pad,
    "Gather": views.gather,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Resize": views.resize,
    "Upsample": _first,
    "Expand": views.expand,
}

ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "And",
        "BitwiseAnd",
        "BitwiseOr",
        "Cast",
        "CastLike",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "Max",
        "Mean",
        "Min",
        "Mish",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "PRelu",
        "Pow",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
        "Sin",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Sub",
        "Sum",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
        "Where",
        "Xor",
    }
)
