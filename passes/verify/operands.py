"""Whether the attributes and constants of nodes fit their operands: axes, permutations and indices.

ONNX's checker looks at no attribute's value, and inference gives no shape where one is wrong. Without this check, such
a model would seem to be one of which little is known, and it would be pruned although no runtime accepts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph import ONNX_DOMAINS, constant, contradiction, input_at, ints_attribute, static_shape

_AXIS = frozenset({
    "ArgMax", "ArgMin", "Compress", "Concat", "Flatten", "Gather", "GatherElements", "Hardmax", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "OneHot", "RMSNormalization", "Scatter", "ScatterElements", "Softmax", "Split",
    "TopK", "Unique",
})  # fmt: skip
"""Operators with an attribute ``axis`` of their first input."""

_AXES_INPUT = {"CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}
_AXES = ("CenterCropPad", "LpNormalization", "MeanVarianceNormalization", "Resize", "Squeeze", "Unsqueeze", "Slice")
_AFTER = {"Flatten": 1, "OneHot": 1}
"""Operator -> by how much an axis may be larger than the last one of the input."""

_GIVES = frozenset({"Concat", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators whose results have a known rank if their operands have."""


def check_operands(model: ir.Model) -> None:
    """Refuse a model with a node whose axes, permutation or constant indices do not fit its first input.

    Raises:
        ModelError: the text names the node.
    """
    for node in model.graph.all_nodes():
        if node.domain in ONNX_DOMAINS and (wrong := next(_faults(node), "")):
            raise ModelError(f"the model is not valid: {node.op_type} {node.name!r} {wrong}")
    doubtful = (n for n in model.graph if n.op_type in _GIVES and n.domain in ONNX_DOMAINS and _lost_rank(n))
    if any(doubtful) and (found := contradiction(model)):
        raise ModelError(f"the model is not valid: {found}")


def _faults(node: ir.Node) -> Iterator[str]:
    source = input_at(node, 0)
    shape = None if source is None else source.shape
    if shape is None:
        return
    rank = len(shape)
    limit = rank + _AFTER.get(node.op_type, 0)
    if node.op_type == "Unsqueeze":
        limit += len(list(_axes(node)))
    for axis in _axes(node):
        if not -limit <= axis < limit:
            yield f"has axis {axis}, but its input has {rank} {'axis' if rank == 1 else 'axes'}"
    perm = ints_attribute(node, "perm") if node.op_type == "Transpose" else None
    if perm is not None and sorted(perm) != list(range(rank)):
        yield f"has perm {list(perm)}, but its input has {rank} axes"
    axis = node.attributes.get_int("axis", 0)
    indices = constant(input_at(node, 1)) if node.op_type == "Gather" else None
    length = shape[axis] if indices is not None and indices.size and -rank <= axis < rank else None
    if isinstance(length, int) and indices is not None and not -length <= indices.min() <= indices.max() < length:
        wrong = indices.max() if indices.max() >= length else indices.min()
        yield f"reads index {wrong} of an axis of length {length}"

    yield from _sizes(node)


def _sizes(node: ir.Node) -> Iterator[str]:
    """Lengths that do not fit, where all of them are known."""
    shape, other = (static_shape(input_at(node, k)) for k in (0, 1))
    if node.op_type in ("Conv", "ConvTranspose") and shape and other and len(shape) > 1 < len(other):
        groups = node.attributes.get_int("group", 1)
        wanted = other[0] if node.op_type == "ConvTranspose" else other[1] * groups
        if shape[1] != wanted:
            yield f"reads {wanted} channels in {groups} groups, but its input has {shape[1]}"
    target = constant(input_at(node, 1)) if node.op_type == "Reshape" else None
    if shape is None or target is None or node.attributes.get_int("allowzero", 0) == 1:
        return
    sizes = [shape[k] if d == 0 and k < len(shape) else int(d) for k, d in enumerate(target.reshape(-1))]
    known, whole = math.prod(d for d in sizes if d != -1), math.prod(shape)
    if whole % known if -1 in sizes and known else known != whole:
        yield f"makes {list(shape)} into {target.tolist()}, which has another number of elements"


def _axes(node: ir.Node) -> Iterator[int]:
    """All axes of the first input that a node names."""
    if node.op_type in _AXIS and "axis" in node.attributes:
        yield node.attributes.get_int("axis", 0)
    reduces = node.op_type.startswith("Reduce")
    if reduces or node.op_type in _AXES:
        yield from ints_attribute(node, "axes") or ()
    position = 1 if reduces else _AXES_INPUT.get(node.op_type)
    given = None if position is None else constant(input_at(node, position))
    if given is not None:
        yield from map(int, given.reshape(-1))


def _lost_rank(node: ir.Node) -> bool:
    """Whether inference gives no shape although all operands have one."""
    known = all(v is None or v.shape is not None for v in node.inputs)
    return known and any(v.name and v.shape is None for v in node.outputs)
