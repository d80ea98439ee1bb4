"""Pad the channels of images with zeros, up to the next multiple that the INT8 convolution kernel takes.

onnxruntime's fast INT8 kernel for convolutions reads four input channels at a time. An image has one or three channels.
For its convolution onnxruntime copies every patch instead, which takes twice as long. Only values that are quantized
at this point are padded: their memory is still channels-first, so the padding is one more contiguous piece.

This takes two steps: `pad_image_weights` before the scales are chosen, so that activations keep their names, and
`pad_images` after.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, input_at, is_op, new_initializer, static_shape
from edgeprune.passes.x86.edits import dequantized_after
from edgeprune.passes.x86.ungroup import IN_STEP, LEAST_OUT, LEAST_PATCHES, OUT_STEP, patches


def pad_image_weights(graph: ir.Graph, nodes: Collection[str]) -> tuple[ir.Node, ...]:
    """Add weights of zeros to the named convolutions that read a graph input or the result of a float node.

    Returns these convolutions. Their data has fewer channels than their weights now: `pad_images` has to correct that.
    """
    padded = []
    for node in [n for n in graph if n.name in nodes and is_op(n, "Conv")]:
        shape, weight = static_shape(input_at(node, 1)), constant(input_at(node, 1))
        data, source = node.inputs[0], node.inputs[1]
        if data is None or weight is None or shape is None or source is None or not _is_float(data, nodes):
            continue
        outputs, inputs = shape[:2]
        if node.attributes.get_int("group", 1) != 1 or not inputs % IN_STEP or len(shape) != 4:
            continue
        if outputs % OUT_STEP or outputs < LEAST_OUT or patches(node, shape[2:]) < LEAST_PATCHES:
            continue
        zeros = np.zeros((outputs, -inputs % IN_STEP, *shape[2:]), weight.dtype)
        wider = new_initializer(graph, f"{source.name}_deep", np.concatenate([weight, zeros], axis=1))
        node.replace_input_with(1, wider)
        padded.append(node)
    return tuple(padded)


def _is_float(data: ir.Value, nodes: Collection[str]) -> bool:
    producer = data.producer()
    dims = dim_keys(data) or ()
    known = len(dims) == 4 and isinstance(dims[1], int)
    return known and (producer is None or producer.name not in nodes)


def pad_images(graph: ir.Graph, convolutions: Iterable[ir.Node]) -> None:
    """Pad the quantized input of each of these convolutions with channels of zeros."""
    padded: dict[ir.Value, ir.Value] = {}
    for node in convolutions:
        data = node.inputs[0]
        assert data is not None
        if data not in padded:
            padded[data] = _padded(graph, data)
        node.replace_input_with(0, padded[data])


def _padded(graph: ir.Graph, data: ir.Value) -> ir.Value:
    read = data.producer()
    assert read is not None
    zero = read.inputs[2]
    assert zero is not None
    assert data.shape is not None
    batch, channels, *space = data.shape
    assert isinstance(channels, int)
    more = -channels % IN_STEP
    widths = new_initializer(graph, f"{data.name}_deep_widths", np.array([0, 0, 0, 0, 0, more, 0, 0], np.int64))
    return dequantized_after(graph, data, "Pad", [widths, zero], "deep", [batch, channels + more, *space])
