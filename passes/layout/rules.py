"""How operators compute on channels-first instead of channels-last tensors: which inputs and outputs turn, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx_ir as ir

from edgeprune.graph import constant, constant_tensor, ints_attribute
from edgeprune.passes.layout.edits import Edits
from edgeprune.passes.layout.order import Order

Edit: TypeAlias = Callable[[ir.Node, Edits], None]


def no_edit(node: ir.Node, edits: Edits) -> None:
    """The node stays as it is."""


@dataclass(frozen=True)
class Turned:
    """The inputs and outputs of a node that become channels-first, and the edit that keeps what the node computes."""

    operands: tuple[int, ...]
    results: tuple[int, ...]
    edit: Edit = no_edit


Rule: TypeAlias = Callable[[ir.Node, Order], Turned | None]


def elementwise(node: ir.Node, order: Order) -> Turned | None:
    """Any operator that computes each element from the elements at its place, with broadcasting."""
    if len(node.outputs) != 1 or not order.has(node.outputs[0]):
        return None
    operands, constants = [], []
    for index, value in enumerate(node.inputs):
        if value is None:
            continue
        if value.shape is None:
            return None
        if order.has(value):
            operands.append(index)
        elif all(dim == 1 for dim in value.shape):
            continue
        elif constant_tensor(value) is None:
            return None
        else:
            constants.append(index)

    def edit(node: ir.Node, edits: Edits) -> None:
        for index in constants:
            edits.constant(node, index)

    return Turned(tuple(operands), (0,), edit) if operands else None


def along(default: int | None) -> Rule:
    """An operator with an ``axis`` whose outputs have the rank of its first input."""

    def rule(node: ir.Node, order: Order) -> Turned | None:
        axis = node.attributes.get_int("axis", default)
        if axis is None or not order.has(node.inputs[0]) or not all(order.has(value) for value in node.outputs):
            return None
        return Turned((0,), tuple(range(len(node.outputs))), _set_axis(order.axis(axis)))

    return rule


def _set_axis(axis: int) -> Edit:
    def edit(node: ir.Node, edits: Edits) -> None:
        node.attributes["axis"] = ir.AttrInt64("axis", axis)

    return edit


def concat(node: ir.Node, order: Order) -> Turned | None:
    """Concat: constants among the inputs turn, too."""
    axis = node.attributes.get_int("axis")
    if axis is None or not all(order.has(value) for value in node.inputs):
        return None
    return Turned(tuple(range(len(node.inputs))), (0,), _set_axis(order.axis(axis)))


def gather(node: ir.Node, order: Order) -> Turned | None:
    """A list of indices along an axis; one index, which drops the axis, if the others keep their order."""
    indices, axis = node.inputs[1], node.attributes.get_int("axis", 0) or 0
    if not order.has(node.inputs[0]) or indices is None or indices.shape is None or len(indices.shape) > 1:
        return None
    return dropping([axis], bool(len(indices.shape)), order, _set_axis(order.axis(axis)))


def dropping(axes: Sequence[int], kept: bool, order: Order, edit: Edit) -> Turned | None:
    """A node that keeps axes, as size 1, or drops them: then the rest must have the same order."""
    if kept:
        return Turned((0,), (0,), edit)
    rest = [axis for axis in range(order.rank) if axis not in {a % order.rank for a in axes}]
    return Turned((0,), (), edit) if order.keeps(rest) else None


def arg(node: ir.Node, order: Order) -> Turned | None:
    """ArgMax and ArgMin."""
    if not order.has(node.inputs[0]):
        return None
    axis = node.attributes.get_int("axis", 0) or 0
    return dropping([axis], bool(node.attributes.get_int("keepdims", 1)), order, _set_axis(order.axis(axis)))


def reduction(node: ir.Node, order: Order) -> Turned | None:
    """A reduction over axes that an attribute or the second input names, or over all."""
    if not order.has(node.inputs[0]):
        return None
    kept = bool(node.attributes.get_int("keepdims", 1))
    given = node.inputs[1] if len(node.inputs) > 1 else None
    listed = ints_attribute(node, "axes")
    if given is not None:
        array = constant(given)
        if array is None:
            return None
        listed = tuple(int(axis) for axis in array.reshape(-1))
    if not listed:
        unchanged = bool(node.attributes.get_int("noop_with_empty_axes", 0))
        return Turned((0,), (0,) if kept or unchanged else ())
    return dropping(listed, kept, order, set_axes(listed, 1))


def dense(node: ir.Node, order: Order) -> Turned | None:
    """A MatMul of an image's channels with a constant matrix, as Keras applies a Dense to images: a 1x1 convolution."""
    data, weight = node.inputs[0], constant_tensor(node.inputs[1]) if len(node.inputs) == 2 else None
    if order.rank < _IMAGE or weight is None or len(weight.shape) != 2 or not order.has(data):
        return None
    if data is None or data.dtype not in _CONVOLVED:
        return None

    def edit(node: ir.Node, edits: Edits) -> None:
        node.op_type = "Conv"
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [1] * (order.rank - 2))
        edits.kernel(node, 1)

    return Turned((0,), (0,), edit)


_IMAGE = 4
"""Tensors of rank 3 are tokens more often than signals, and their Transposes belong to attention."""
_CONVOLVED = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def set_axes(axes: tuple[int, ...], index: int) -> Edit:
    """Write channels-last axes as channels-first ones: in the attribute if the node has it, else as an input."""

    def edit(node: ir.Node, edits: Edits) -> None:
        turned = [edits.order.axis(axis) for axis in axes]
        if "axes" in node.attributes:
            node.attributes["axes"] = ir.AttrInt64s("axes", turned)
        else:
            edits.integers(node, index, turned, "axes")

    return edit


def quantization(node: ir.Node, order: Order) -> Turned | None:
    """QuantizeLinear and DequantizeLinear, with one scale or one for each channel."""
    scale = node.inputs[1]
    if not order.has(node.inputs[0]) or scale is None or scale.shape is None or len(scale.shape) > 1:
        return None
    if all(dim == 1 for dim in scale.shape):
        return Turned((0,), (0,))
    return Turned((0,), (0,), _set_axis(order.axis(node.attributes.get_int("axis", 1) or 0)))
