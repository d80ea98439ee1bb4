"""Lengths of the results of convolutions and poolings."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from edgeprune import lengths
from edgeprune.graph.edit import dim_keys, input_at, ints_attribute
from edgeprune.lengths import Dim

Dims = tuple[Dim, ...]


def _windows(node: ir.Node, spatial: Sequence[Dim], kernel: Sequence[Dim]) -> list[Dim]:
    """Positions of a sliding window along every axis."""
    rank = len(spatial)
    strides = ints_attribute(node, "strides") or (1,) * rank
    dilations = ints_attribute(node, "dilations") or (1,) * rank
    pads = ints_attribute(node, "pads") or (0,) * (2 * rank)
    auto = node.attributes.get_string("auto_pad") or "NOTSET"
    up = bool(node.attributes.get_int("ceil_mode", 0))
    out: list[Dim] = []
    for k, d in enumerate(spatial):
        if auto.startswith("SAME"):
            out.append(lengths.floor_divide(lengths.add(d, strides[k] - 1), strides[k]))
            continue
        if up and not isinstance(d, int) and any(pads):
            out.append(None)  # the last window may begin in the padding, and is left out then
            continue
        padding = 0 if auto == "VALID" else pads[k] + pads[rank + k]
        covered = lengths.add(lengths.multiply(lengths.subtract(kernel[k], 1), dilations[k]), 1)
        free = lengths.subtract(lengths.add(d, padding), covered)
        steps = lengths.floor_divide(lengths.add(free, strides[k] - 1) if up else free, strides[k])
        out.append(lengths.add(steps, 1))
    return out


def conv(node: ir.Node, memo: object) -> Dims | None:
    """Batch, output channels, and the positions of the kernel."""
    data, weight = dim_keys(node.inputs[0]), dim_keys(input_at(node, 1))
    if data is None or weight is None or len(data) != len(weight):
        return None
    return (data[0], weight[0], *_windows(node, data[2:], weight[2:]))


def pool(node: ir.Node, memo: object) -> Dims | None:
    """Batch, channels, and the positions of the window."""
    data, kernel = dim_keys(node.inputs[0]), ints_attribute(node, "kernel_shape")
    if data is None or kernel is None or len(data) != len(kernel) + 2:
        return None
    return (*data[:2], *_windows(node, data[2:], kernel))


def conv_transpose(node: ir.Node, memo: object) -> Dims | None:
    """Batch, output channels, and what the kernels at all positions cover."""
    data, weight = dim_keys(node.inputs[0]), dim_keys(input_at(node, 1))
    if data is None or weight is None or len(data) != len(weight) or "output_shape" in node.attributes:
        return None
    rank = len(data) - 2
    strides = ints_attribute(node, "strides") or (1,) * rank
    dilations = ints_attribute(node, "dilations") or (1,) * rank
    pads = ints_attribute(node, "pads") or (0,) * (2 * rank)
    extra = ints_attribute(node, "output_padding") or (0,) * rank
    auto = node.attributes.get_string("auto_pad") or "NOTSET"
    channels = lengths.multiply(weight[1], node.attributes.get_int("group", 1))
    out: list[Dim] = []
    for k, d in enumerate(data[2:]):
        if auto.startswith("SAME"):
            out.append(lengths.multiply(d, strides[k]))
            continue
        padding = 0 if auto == "VALID" else pads[k] + pads[rank + k]
        covered = lengths.add(
            lengths.multiply(lengths.subtract(weight[2 + k], 1), dilations[k]), 1 + extra[k] - padding
        )
        out.append(lengths.add(lengths.multiply(lengths.subtract(d, 1), strides[k]), covered))
    return (data[0], channels, *out)
