"""Channels of zeros beside those of depthwise convolutions, up to the next multiple of what their integer kernel takes.

onnxruntime's kernel for depthwise convolutions of integers takes 16 channels at a time; those that are left over go one
by one, and 184 channels take 2.5 times as long as 192. So where nothing but layers that can be widened, and pointwise
nodes, touches the channels, they are widened: rows of zeros where channels are made, columns of zeros where they are
read. What the new channels hold is read by nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.passes.edit import constant, input_at, int_attribute, is_op, new_initializer, static_shape

TOGETHER = 16
"""Channels that the kernel takes at a time."""

_MOST_WIDENING = 4 / 3
"""The other nodes become slower by as much."""

_POINTWISE = (
    "Add", "Clip", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sub",
    "AveragePool", "GlobalAveragePool", "MaxPool",
)  # fmt: skip
"""Nodes that treat all channels alike, pools among them."""


@dataclass(eq=False)
class _Region:
    """Values that hold the same channels, and the convolutions that make, keep and read them."""

    channels: int
    values: dict[ir.Value, None] = field(default_factory=dict)
    makers: dict[ir.Node, None] = field(default_factory=dict)
    keepers: dict[ir.Node, None] = field(default_factory=dict)
    readers: dict[ir.Node, None] = field(default_factory=dict)


def pad_channels(graph: ir.Graph, nodes: Collection[str]) -> None:
    """Widen the channels of the named depthwise convolutions, in place, where that can be done."""
    done: set[ir.Value] = set()
    for node in [n for n in graph if n.name in nodes and _is_depthwise(n)]:
        shape = static_shape(node.inputs[1])
        assert shape is not None
        channels, source = shape[0], node.inputs[0]
        wider = -(-channels // TOGETHER) * TOGETHER
        if source is None or source in done or wider == channels or wider > _MOST_WIDENING * channels:
            continue
        region = _region(source, channels)
        if region is not None:
            _widen(graph, region, wider - channels)
            done.update(region.values)


def _is_depthwise(node: ir.Node) -> bool:
    shape = static_shape(input_at(node, 1))
    return is_op(node, "Conv") and shape is not None and shape[1] == 1 < shape[0] == int_attribute(node, "group", 1)


def _region(start: ir.Value, channels: int) -> _Region | None:
    """All that has to be widened with a value; None where something in the way cannot be."""
    region, todo = _Region(channels), [start]
    while todo:
        value = todo.pop()
        if value in region.values:
            continue
        dims, producer = value.shape, value.producer()
        if dims is None or len(dims) != 4 or dims[1] != channels or value.is_graph_output() or producer is None:
            return None
        region.values[value] = None
        for node in (producer, *value.consumers()):
            joined = _join(region, node, value)
            if joined is None:
                return None
            todo.extend(joined)
    return region


def _join(region: _Region, node: ir.Node, value: ir.Value) -> Iterable[ir.Value] | None:
    """Values that a node ties to one of the region; None if it cannot be widened."""
    if is_op(node, *_POINTWISE):
        numbers = [constant(v) for v in node.inputs if v is not None and v.const_value is not None]
        if any(number is None or number.size > 1 for number in numbers):
            return None
        return [v for v in (*node.inputs, *node.outputs) if v is not None and v.const_value is None]
    if not is_op(node, "Conv") or constant(input_at(node, 1)) is None:
        return None
    if (bias := input_at(node, 2)) is not None and constant(bias) is None:
        return None
    if _is_depthwise(node):
        region.keepers[node] = None
        assert node.inputs[0] is not None
        return [node.inputs[0], node.outputs[0]]
    if int_attribute(node, "group", 1) != 1:
        return None
    (region.makers if value is node.outputs[0] else region.readers)[node] = None
    return []


def _widen(graph: ir.Graph, region: _Region, more: int) -> None:
    for node in (*region.makers, *region.keepers):
        for index in range(1, len(node.inputs)):
            _lengthen(graph, node, index, 0, more)
    for node in region.keepers:
        node.attributes.add(ir.AttrInt64("group", region.channels + more))
    for node in region.readers:
        _lengthen(graph, node, 1, 1, more)
    for value in region.values:
        assert value.shape is not None
        value.shape = ir.Shape([d if axis != 1 else region.channels + more for axis, d in enumerate(value.shape)])


def _lengthen(graph: ir.Graph, node: ir.Node, index: int, axis: int, more: int) -> None:
    array: NDArray[Any] | None = constant(node.inputs[index])
    if array is None:
        return
    zeros = np.zeros([more if a == axis else n for a, n in enumerate(array.shape)], array.dtype)
    source = node.inputs[index]
    assert source is not None
    wider = new_initializer(graph, f"{source.name}_wide", np.concatenate([array, zeros], axis=axis))
    node.replace_input_with(index, wider)
