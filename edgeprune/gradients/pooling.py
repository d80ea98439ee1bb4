"""Gradients of pooling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.convolution import geometry_of
from edgeprune.gradients.tape import Call, Unsupported, gradient

Given = Sequence["ir.Value | None"]


@gradient("GlobalAveragePool")
def _global_average(call: Call) -> Given:
    shape = call.shape(call.x(0))
    spread = call.tape.scaled(call.first_dy, 1 / int(np.prod(shape[2:])))
    return [call.tape.op("Expand", spread, call.tape.constant(list(shape)))]


@gradient("AveragePool")
def _average(call: Call) -> Given:
    """A depthwise convolution with a constant kernel, divided by how many values each window covers."""
    tape, attributes = call.tape, call.node.attributes
    shape, pooled = call.shape(call.x(0)), call.shape(call.y)
    kernel = tuple(attributes.get_ints("kernel_shape", ()))
    if attributes.get_int("ceil_mode", 0):
        raise Unsupported("AveragePool with ceil_mode")
    geometry = geometry_of(call, kernel, shape[2:], pooled[2:])
    counts = np.full(pooled[2:], float(np.prod(kernel)))
    if not attributes.get_int("count_include_pad", 0):
        covered = [
            np.array([sum(0 <= o * s + k * d - b < size for k in range(width)) for o in range(out)])
            for out, s, d, b, size, width in zip(
                pooled[2:], geometry.stride, geometry.dilation, geometry.before, shape[2:], kernel, strict=True
            )
        ]
        counts = np.prod(np.meshgrid(*covered, indexing="ij"), axis=0)
    dy = tape.op("Div", call.first_dy, tape.constant(counts.astype(np.float64)))
    flat = tape.reshaped(dy, (shape[0] * shape[1], 1, *pooled[2:]))
    weight = tape.constant(np.ones((1, 1, *kernel)), np.float32)
    spread = tape.op(
        "ConvTranspose", flat, weight, **geometry.attributes | {"group": 1}, output_padding=geometry.left_over
    )
    return [tape.reshaped(spread, shape)]


@gradient("MaxPool", "GlobalMaxPool")
def _max(call: Call) -> Given:
    """Each output's gradient goes to the position that it came from, which the operator tells as a second output."""
    tape, shape = call.tape, call.shape(call.x(0))
    if call.node.op_type == "GlobalMaxPool":
        attributes: dict[str, object] = {"kernel_shape": list(shape[2:])}
    else:
        attributes = {name: attribute.value for name, attribute in call.node.attributes.items()}
        if attributes.get("storage_order", 0):
            raise Unsupported("MaxPool in column order")
    _, indices = tape.ops("MaxPool", 2, call.x(0), **attributes)
    zeros = tape.zeros([int(np.prod(shape))])
    flat = tape.reshaped(indices, (-1,))
    dy = tape.reshaped(call.first_dy, (-1,))
    return [tape.reshaped(tape.op("ScatterElements", zeros, flat, dy, axis=0, reduction="add"), shape)]
