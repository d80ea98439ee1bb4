"""Channels of zeros beside those of images, up to the next multiple of what the integer kernels take.

onnxruntime's fast integer kernel for convolutions reads four input channels at a time. An image has one or three, and
its convolution falls back to copying every patch, which takes twice as long. Only what is quantized there is given more
channels: it still lies channel by channel, so that they are one piece of memory more.

In two steps, since the scale of the image is chosen in between, for an activation that keeps its name:
`deepen_weights`, then `deepen_images`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, input_at, int_attribute, is_op, new_initializer, new_node, static_shape
from edgeprune.passes.x86.ungroup import IN_STEP, LEAST_OUT, LEAST_PATCHES, OUT_STEP, patches


def deepen_weights(graph: ir.Graph, nodes: Collection[str]) -> tuple[ir.Node, ...]:
    """Give weights of zeros to those of the named convolutions that read an input or what a float node gives; which.

    Their data has fewer channels then, which `deepen_images` has to mend.
    """
    deepened = []
    for node in [n for n in graph if n.name in nodes and is_op(n, "Conv")]:
        shape, weight = static_shape(input_at(node, 1)), constant(input_at(node, 1))
        data, source = node.inputs[0], node.inputs[1]
        if data is None or weight is None or shape is None or source is None or not _is_float(data, nodes):
            continue
        outputs, inputs = shape[:2]
        if int_attribute(node, "group", 1) != 1 or not inputs % IN_STEP or len(shape) != 4:
            continue
        if outputs % OUT_STEP or outputs < LEAST_OUT or patches(node, shape[2:]) < LEAST_PATCHES:
            continue
        zeros = np.zeros((outputs, -inputs % IN_STEP, *shape[2:]), weight.dtype)
        wider = new_initializer(graph, f"{source.name}_deep", np.concatenate([weight, zeros], axis=1))
        node.replace_input_with(1, wider)
        deepened.append(node)
    return tuple(deepened)


def _is_float(data: ir.Value, nodes: Collection[str]) -> bool:
    producer = data.producer()
    dims = dim_keys(data) or ()
    known = len(dims) == 4 and isinstance(dims[1], int)
    return known and (producer is None or producer.name not in nodes)


def deepen_images(graph: ir.Graph, deepened: Iterable[ir.Node]) -> None:
    """Give these convolutions the channels of zeros; what they read is dequantized, and the integers are padded."""
    deep: dict[ir.Value, ir.Value] = {}
    for node in deepened:
        data = node.inputs[0]
        assert data is not None
        if data not in deep:
            deep[data] = _deepened(graph, data)
        node.replace_input_with(0, deep[data])


def _deepened(graph: ir.Graph, data: ir.Value) -> ir.Value:
    read = data.producer()
    assert read is not None
    assert is_op(read, "DequantizeLinear")
    integers, scale, zero = read.inputs
    assert integers is not None
    assert scale is not None
    assert zero is not None
    assert data.shape is not None
    batch, channels, *space = data.shape
    assert isinstance(channels, int)
    more = -channels % IN_STEP
    widths = new_initializer(graph, f"{data.name}_deep_widths", np.array([0, 0, 0, 0, 0, more, 0, 0], np.int64))
    pad = new_node(graph, "Pad", [integers, widths, zero], f"{data.name}_deep", ir.DataType.UINT8)
    restored = new_node(graph, "DequantizeLinear", [pad.outputs[0], scale, zero], f"{data.name}_deep_dequantize",
                        ir.DataType.FLOAT)  # fmt: skip
    pad.outputs[0].shape = restored.outputs[0].shape = ir.Shape([batch, channels + more, *space])
    graph.insert_after(read, [pad, restored])
    value: ir.Value = restored.outputs[0]
    return value
