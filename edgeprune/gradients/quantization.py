"""Gradients through quantization, by the straight-through estimator (Bengio et al. 2013).

A Q/DQ pair counts as the identity inside its range and as a constant outside. The gradient of a quantized value is that
of the real number that it represents.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.tape import Call, InputGradients, Unsupported, gradient


@gradient("DequantizeLinear")
def _dequantize(call: Call) -> InputGradients:
    return [call.first_dy]


@gradient("QuantizeLinear")
def _quantize(call: Call) -> InputGradients:
    scale, zero = call.constant(1), call.constant(2)
    if scale is None or zero is None or call.y.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        raise Unsupported("QuantizeLinear with a computed scale, or not to 8 bits")
    tape, op, x = call.tape, call.tape.op, call.x(0)
    limits = np.iinfo(zero.dtype)
    column = [1] * len(call.shape(x))
    if scale.ndim:
        column[call.axis("axis", 1, len(column))] = -1
    step, offset = scale.astype(np.float64).reshape(column), zero.astype(np.float64).reshape(column)
    low, high = (tape.constant((edge - offset) * step) for edge in (limits.min - 0.5, limits.max + 0.5))
    inside = op("And", op("Greater", x, low), op("Less", x, high))
    return [op("Where", inside, call.first_dy, tape.constant(0.0))]
