"""Whether the attributes and constants of nodes fit their operands: axes, permutations, indices and lengths.

ONNX's checker looks at no attribute's value, and inference gives no shape where one is wrong. Without this check, such
a model would seem to be one of which little is known, and it would be pruned although no runtime accepts it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from edgeprune.errors import ModelError
from edgeprune.graph import (
    ONNX_DOMAINS,
    constant,
    contradiction,
    has_subgraph,
    input_at,
    ints_attribute,
    static_shape,
    subgraphs,
)
from edgeprune.passes.verify.operand_shapes import misfits

_AXIS = frozenset({
    "ArgMax", "ArgMin", "Compress", "Concat", "Flatten", "Gather", "GatherElements", "Hardmax", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "OneHot", "RMSNormalization", "Scatter", "ScatterElements", "Softmax", "Split",
    "TopK", "Unique",
})  # fmt: skip
"""Operators with an attribute ``axis`` of their first input."""

_AXES_INPUT = {"CumProd": 1, "CumSum": 1, "Pad": 3, "Slice": 3, "Squeeze": 1, "Unsqueeze": 1}
_AXES = ("CenterCropPad", "LpNormalization", "MeanVarianceNormalization", "Resize", "Squeeze", "Unsqueeze", "Slice")
_AFTER = {"Flatten": 1, "OneHot": 1}
"""Operator -> by how much an axis may be larger than the last one of the input."""

_BROADCAST = frozenset({"LayerNormalization", "PRelu", "RMSNormalization"})
"""Operators whose second input is broadcast to the first."""


def check_operands(model: ir.Model) -> None:
    """Refuse a model with a node whose attributes or constants do not fit its first input.

    Raises:
        ModelError: the text names the node.
    """
    for node in _always_run(model.graph):
        if node.domain in ONNX_DOMAINS and (wrong := next(_faults(node), "")):
            raise ModelError(f"the model is not valid: {node.op_type} {node.name!r} {wrong}")
    if any(has_subgraph(node) or _has_open_sizes(node) for node in model.graph):
        return  # ONNX's inference refuses loops over sequences, and sizes of unknown number, that runtimes accept
    if found := contradiction(model):
        raise ModelError(f"the model is not valid: {found}")


def _always_run(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of a graph and of its loops; not the branches of an If, of which one is not taken and need not fit."""
    for node in graph:
        yield node
        if node.op_type != "If":
            for body in subgraphs(node):
                yield from _always_run(body)


def _has_open_sizes(node: ir.Node) -> bool:
    """Whether a Resize reads a computed number of scales or sizes."""
    given = node.inputs[1:] if node.op_type == "Resize" else ()
    return any(v is not None and v.shape is not None and not v.shape.is_static() for v in given)


def _faults(node: ir.Node) -> Iterator[str]:
    yield from misfits(node)
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
    indices = constant(input_at(node, 1)) if node.op_type in ("Gather", "GatherElements") else None
    length = shape[axis] if indices is not None and indices.size and -rank <= axis < rank else None
    if isinstance(length, int) and indices is not None and not -length <= indices.min() <= indices.max() < length:
        wrong = indices.max() if indices.max() >= length else indices.min()
        yield f"reads index {wrong} of an axis of length {length}"
    for made in (d for v in node.outputs if v.shape is not None for d in v.shape):
        if isinstance(made, int) and made < 0:
            yield f"makes an axis of length {made}"
    lengths = [d if isinstance(d, int) else None for d in shape]
    yield from _scales(node, lengths)
    yield from _parts(node, lengths)
    yield from _sizes(node)


def _scales(node: ir.Node, lengths: Sequence[int | None]) -> Iterator[str]:
    """Vectors of scales and slopes that do not fit the axis that they belong to."""
    scale = static_shape(input_at(node, 1))
    if scale is None:
        return
    axis = 1 if node.op_type == "InstanceNormalization" else _scaled_axis(node)
    if axis is not None and len(scale) == 1 and -len(lengths) <= axis < len(lengths):
        if lengths[axis] not in (None, scale[0]):
            yield f"has {scale[0]} values for an axis of length {lengths[axis]}"
    elif node.op_type in _BROADCAST and not _broadcasts(scale, lengths):
        if node.op_type == "PRelu" and [*scale] == lengths[1:2]:
            return  # before opset 7, slopes are those of axis 1
        yield f"has values of shape {list(scale)}, which do not fit the axes {list(lengths)} of its input"


def _scaled_axis(node: ir.Node) -> int | None:
    """The axis with a scale for each position, of QuantizeLinear and DequantizeLinear."""
    scale = static_shape(input_at(node, 1)) if node.op_type in ("QuantizeLinear", "DequantizeLinear") else None
    if scale is None or len(scale) != 1 or scale[0] == 1 or node.attributes.get_int("block_size", 0) > 0:
        return None
    return node.attributes.get_int("axis", 1)


def _broadcasts(values: Sequence[int], lengths: Sequence[int | None]) -> bool:
    """Whether values can be broadcast to these axes without a change of them."""
    pairs = zip(reversed(values), reversed(lengths), strict=False)
    return len(values) <= len(lengths) and all(v == 1 or d in (None, v) for v, d in pairs)


def _parts(node: ir.Node, lengths: Sequence[int | None]) -> Iterator[str]:
    """Axes that are divided into equal parts, mirrored or sorted, and are too short for it or leave a rest."""
    rank, block = len(lengths), node.attributes.get_int("blocksize", 1)
    divided: dict[int, int] = {}
    if node.op_type == "DepthToSpace" and rank == 4:
        divided = {1: block**2}
    elif node.op_type == "SpaceToDepth" and rank == 4:
        divided = {2: block, 3: block}
    elif node.op_type == "GroupNormalization" and rank > 1:
        divided = {1: node.attributes.get_int("num_groups", 1)}
    for axis, parts in divided.items():
        if (length := lengths[axis]) is not None and (parts < 1 or length % parts):
            yield f"divides axis {axis} of length {length} into {parts} parts"
    k = constant(input_at(node, 1)) if node.op_type == "TopK" else None
    axis = node.attributes.get_int("axis", -1)
    if k is not None and k.size == 1 and -rank <= axis < rank:
        taken, length = int(k.reshape(())), lengths[axis]
        if taken < 0 or (length is not None and taken > length):
            yield f"takes {taken} elements of an axis of length {length}"
    mirrors = node.op_type == "Pad" and node.attributes.get_string("mode", "constant") == "reflect"
    pads = constant(input_at(node, 1)) if mirrors else None
    if pads is not None and pads.size == 2 * rank and input_at(node, 3) is None:
        for axis, pad in enumerate(pads.reshape(2, rank).max(axis=0).tolist()):
            if (length := lengths[axis]) is not None and pad > max(0, length - 1):
                yield f"mirrors {pad} elements of axis {axis}, which has length {length}"


def _sizes(node: ir.Node) -> Iterator[str]:
    """Lengths that do not fit, where all of them are known."""
    shape, other = (static_shape(input_at(node, k)) for k in (0, 1))
    if node.op_type in ("Conv", "ConvTranspose") and shape and other and len(shape) > 1 < len(other):
        groups = node.attributes.get_int("group", 1)
        wanted = other[0] if node.op_type == "ConvTranspose" else other[1] * groups
        if shape[1] != wanted:
            yield f"reads {wanted} channels in {groups} groups, but its input has {shape[1]}"
        bias, made = static_shape(input_at(node, 2)), other[1] * groups if node.op_type == "ConvTranspose" else other[0]
        if bias is not None and bias != (made,):
            yield f"makes {made} channels, but its bias has the shape {list(bias)}"
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
    if (scaled := _scaled_axis(node)) is not None:
        yield scaled
    reduces = node.op_type.startswith("Reduce")
    if reduces or node.op_type in _AXES:
        yield from ints_attribute(node, "axes") or ()
    position = 1 if reduces else _AXES_INPUT.get(node.op_type)
    given = None if position is None else constant(input_at(node, position))
    if given is not None:
        yield from map(int, given.reshape(-1))
