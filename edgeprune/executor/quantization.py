"""Quantization as it is trained: integers are floats, and gradients pass the rounding (straight-through).

A scale that is a parameter gets the gradient of Esser et al. 2020, "Learned Step Size Quantization": it follows from
rounding alone being passed straight through.
"""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgeprune.executor.registry import Call, Kernel, Tensor, op

LIMITS = {
    ir.DataType.INT8: (-128.0, 127.0),
    ir.DataType.UINT8: (0.0, 255.0),
    ir.DataType.INT16: (-32768.0, 32767.0),
    ir.DataType.UINT16: (0.0, 65535.0),
    ir.DataType.INT32: (-2147483648.0, 2147483520.0),  # the largest float32 below 2 ** 31
    ir.DataType.INT4: (-8.0, 7.0),
    ir.DataType.UINT4: (0.0, 15.0),
}
"""The smallest and the largest value of an integer type."""


def rounded(x: Tensor) -> Tensor:
    """Rounded to the nearest integer, half to even; the gradient passes."""
    return x + (torch.round(x) - x).detach()


def quantized(x: Tensor, scale: Tensor, zero: Tensor | None, low: float, high: float) -> Tensor:
    """The integers of x as floats; no gradient passes where they are cut to the limits."""
    y = rounded(x / scale)
    return torch.clamp(y if zero is None else y + zero, low, high)


def spread(parameter: Tensor, rank: int, axis: int, shape: tuple[int, ...], block: int) -> Tensor:
    """A scale or zero point in the shape in which it meets a tensor: of one number, of an axis, or of blocks."""
    if block:
        return parameter.repeat_interleave(block, dim=axis).narrow(axis, 0, shape[axis])
    if parameter.dim() == 0 or parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.reshape([-1 if a == axis % rank else 1 for a in range(rank)])


@op("QuantizeLinear")
def quantize_linear(call: Call) -> Kernel:
    """Integers, held as floats."""
    axis, block, shape = call.integer("axis", 1), call.integer("block_size", 0), call.shape(0)
    zero_value = call.node.inputs[2] if len(call.node.inputs) > 2 else None
    dtype = zero_value.dtype if zero_value is not None else ir.DataType(call.integer("output_dtype", 0) or 2)
    low, high = LIMITS[dtype or ir.DataType.UINT8]

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scale = spread(scale, len(shape), axis, shape, block)
        if zero is not None:
            zero = spread(zero, len(shape), axis, shape, block).to(scale.dtype)
        return quantized(x, scale, zero, low, high)

    return kernel


@op("DequantizeLinear")
def dequantize_linear(call: Call) -> Kernel:
    """``(x - zero point) * scale``."""
    axis, block, shape = call.integer("axis", 1), call.integer("block_size", 0), call.shape(0)

    def kernel(x: Tensor, scale: Tensor, zero: Tensor | None = None) -> Tensor:
        scale = spread(scale, len(shape), axis, shape, block)
        x = x.to(scale.dtype)
        if zero is not None:
            x = x - spread(zero, len(shape), axis, shape, block).to(scale.dtype)
        return x * scale

    return kernel
