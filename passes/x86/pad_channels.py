"""Pad the channels of INT8 convolutions with zeros, up to the number that their kernels take.

onnxruntime's INT8 kernel for depthwise convolutions takes 16 channels at a time and the remaining ones one by one: 184
channels take 2.5 times as long as 192. Its kernel for other convolutions computes at least 16 output channels, in steps
of four. With 12 it copies every patch, which takes 1.9 times as long as with 16. So channels are padded if only
convolutions that can be widened, pointwise nodes and Concats touch them: with rows of zeros in the weights that produce
the channels, and columns of zeros in the weights that read them. Nothing reads the new channels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import constant, dim_keys, input_at, is_op, new_initializer
from edgeprune.passes.x86.ungroup import LEAST_OUT, LEAST_PATCHES, OUT_STEP, patches

TOGETHER = 16
"""Channels that the depthwise kernel takes at a time."""

_MOST_WIDENING = 4 / 3
"""Largest growth of the channels: the other nodes become slower by the same factor."""

_POINTWISE = (
    "Add", "Clip", "Div", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Relu", "Sigmoid", "Sub",
    "AveragePool", "GlobalAveragePool", "MaxPool",
)  # fmt: skip
"""Nodes that treat all channels alike, including pools."""

_Placed = tuple[ir.Value, int]


@dataclass(eq=False)
class _Region:
    """Values with the same channels, and the convolutions that make, keep (depthwise) and read them.

    Each value has the position at which new channels are inserted: behind a Concat other channels may follow.
    """

    values: dict[ir.Value, int] = field(default_factory=dict)
    makers: dict[ir.Node, None] = field(default_factory=dict)
    keepers: dict[ir.Node, None] = field(default_factory=dict)
    readers: dict[ir.Node, None] = field(default_factory=dict)


def pad_channels(graph: ir.Graph, nodes: Collection[str]) -> None:
    """Pad the channels of the named convolutions, in place, where possible."""
    done: set[ir.Value] = set()
    for node in [n for n in graph if n.name in nodes and is_op(n, "Conv")]:
        wanted = _wanted(node)
        if wanted is None or wanted[0] in done:
            continue
        value, channels, wider = wanted
        region = _region(value, channels) if channels < wider <= _MOST_WIDENING * channels else None
        if region is None or (wider % TOGETHER and region.keepers):
            continue
        _widen(graph, region, wider - channels)
        done.update(region.values)


def _wanted(node: ir.Node) -> tuple[ir.Value, int, int] | None:
    """The value to pad for a convolution: the value, its number of channels, and the number that the kernel takes."""
    weight, source = constant(input_at(node, 1)), node.inputs[0]
    if weight is None or source is None:
        return None
    channels = weight.shape[0]
    if _is_depthwise(node):
        return source, channels, -(-channels // TOGETHER) * TOGETHER
    if node.attributes.get_int("group", 1) != 1 or patches(node, weight.shape[2:]) < LEAST_PATCHES:
        return None
    return node.outputs[0], channels, max(LEAST_OUT, -(-channels // OUT_STEP) * OUT_STEP)


def _is_depthwise(node: ir.Node) -> bool:
    weight = constant(input_at(node, 1))
    return (
        is_op(node, "Conv")
        and weight is not None
        and weight.shape[1] == 1 < weight.shape[0] == node.attributes.get_int("group", 1)
    )


def _region(start: ir.Value, channels: int) -> _Region | None:
    """Everything that has to be widened together with a value; None if something cannot be widened."""
    region, todo = _Region(), [(start, channels)]
    while todo:
        value, place = todo.pop()
        if value in region.values:
            if region.values[value] != place:
                return None
            continue
        dims, producer = dim_keys(value), value.producer()
        if dims is None or len(dims) != 4 or not isinstance(dims[1], int) or value.is_graph_output():
            return None
        if producer is None:
            return None
        region.values[value] = place
        for node in (producer, *value.consumers()):
            joined = _join(region, node, value, place)
            if joined is None:
                return None
            todo.extend(joined)
    return region


def _join(region: _Region, node: ir.Node, value: ir.Value, place: int) -> Iterable[_Placed] | None:
    """Values that a node ties to a value of the region; None if the node cannot be widened."""
    if is_op(node, *_POINTWISE):
        numbers = [constant(v) for v in node.inputs if v is not None and v.const_value is not None]
        if any(number is None or number.size > 1 for number in numbers):
            return None
        return [(v, place) for v in (*node.inputs, *node.outputs) if v is not None and v.const_value is None]
    if is_op(node, "Concat"):
        return _joined_by_concat(region, node, value, place)
    weight, bias = constant(input_at(node, 1)), input_at(node, 2)
    channels = (dim_keys(value) or (None, None))[1]
    if not is_op(node, "Conv") or weight is None or (bias is not None and constant(bias) is None):
        return None
    if _is_depthwise(node):
        region.keepers[node] = None
        assert node.inputs[0] is not None
        return [(node.inputs[0], place), (node.outputs[0], place)]
    made = value is node.outputs[0]
    if node.attributes.get_int("group", 1) != 1 or weight.shape[0 if made else 1] != channels:
        return None  # the weight of a pixel-shuffled ConvTranspose has rows for each pixel of a tile
    (region.makers if made else region.readers)[node] = None
    return []


def _joined_by_concat(region: _Region, node: ir.Node, value: ir.Value, place: int) -> Iterable[_Placed] | None:
    """The Concat's result, where the channels of the region follow those of the earlier operands."""
    if value is node.outputs[0]:
        return [] if any(v in region.values for v in node.inputs) else None
    sizes = [(dim_keys(v) or (None, None))[1] for v in node.inputs]
    axis = node.attributes.get_int("axis", 0)
    if axis not in (1, -3) or list(node.inputs).count(value) != 1:
        return None
    before = [d for d in sizes[: list(node.inputs).index(value)] if isinstance(d, int)]
    if len(before) != list(node.inputs).index(value):
        return None
    return [(node.outputs[0], sum(before) + place)]


def _widen(graph: ir.Graph, region: _Region, more: int) -> None:
    for node in (*region.makers, *region.keepers):
        for index in range(1, len(node.inputs)):
            _lengthen(graph, node, index, 0, region.values[node.outputs[0]], more)
    for node in region.keepers:
        node.attributes.add(ir.AttrInt64("group", node.attributes.get_int("group", 1) + more))
    for node in region.readers:
        assert node.inputs[0] is not None
        _lengthen(graph, node, 1, 1, region.values[node.inputs[0]], more)
    for value in region.values:
        assert value.shape is not None
        batch, channels, *space = value.shape
        assert isinstance(channels, int)
        value.shape = ir.Shape([batch, channels + more, *space])


def _lengthen(graph: ir.Graph, node: ir.Node, index: int, axis: int, place: int, more: int) -> None:
    array: NDArray[Any] | None = constant(node.inputs[index])
    if array is None:
        return
    zeros = np.zeros([more if a == axis else n for a, n in enumerate(array.shape)], array.dtype)
    source = node.inputs[index]
    assert source is not None
    first, second = np.split(array, [place], axis=axis)
    wider = new_initializer(graph, f"{source.name}_wide", np.concatenate([first, zeros, second], axis=axis))
    node.replace_input_with(index, wider)
