"""Gradients of pooling."""

from __future__ import annotations

import numpy as np

from edgeprune.gradients.convolution import geometry_of
from edgeprune.gradients.tape import Call, InputGradients, Unsupported, gradient


@gradient("GlobalAveragePool")
def _global_average(call: Call) -> InputGradients:
    shape = call.shape(call.x(0))
    spread = call.tape.scaled(call.first_dy, 1 / int(np.prod(shape[2:])))
    return [call.tape.op("Expand", spread, call.tape.constant(list(shape)))]


@gradient("AveragePool")
def _average(call: Call) -> InputGradients:
    """As for a depthwise convolution with a constant kernel, divided by the number of values in each window."""
    tape, given = call.tape, call.node.attributes
    shape, pooled = call.shape(call.x(0)), call.shape(call.y)
    kernel = tuple(given.get_ints("kernel_shape", ()))
    if given.get_int("ceil_mode"):
        raise Unsupported("AveragePool with ceil_mode")
    geometry = geometry_of(call, kernel, shape[2:], pooled[2:])
    counts = np.full(pooled[2:], float(np.prod(kernel)))
    if not given.get_int("count_include_pad"):
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
    attributes = geometry.attributes | {"group": 1, "output_padding": geometry.left_over}
    return [tape.reshaped(tape.op("ConvTranspose", flat, weight, **attributes), shape)]


@gradient("MaxPool", "GlobalMaxPool")
def _max(call: Call) -> InputGradients:
    """The gradient of an output goes to the position of the maximum, which the operator has as a second output."""
    tape, shape = call.tape, call.shape(call.x(0))
    if call.node.op_type == "GlobalMaxPool":
        attributes: dict[str, object] = {"kernel_shape": list(shape[2:])}
    else:
        attributes = {name: attribute.value for name, attribute in call.node.attributes.items()}
        if attributes.get("storage_order", 0):
            raise Unsupported("MaxPool in column order")
    _, indices = tape.ops("MaxPool", 2, call.x(0), **attributes)
    return [tape.scattered(call.first_dy, tape.reshaped(indices, (-1,)), shape)]
