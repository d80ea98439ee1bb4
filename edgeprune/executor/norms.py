"""Normalization and softmax."""

from __future__ import annotations

import torch
from torch.nn import functional

from edgeprune.errors import ModelError
from edgeprune.executor.registry import Call, Kernel, Tensor, op


@op("BatchNormalization")
def batch_normalization(call: Call) -> Kernel:
    """With the statistics of the node."""
    if call.integer("training_mode", 0):
        raise ModelError(f"BatchNormalization {call.node.name!r} is in training mode")
    epsilon = call.real("epsilon", 1e-5)
    return lambda x, scale, bias, mean, var: functional.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)


@op("InstanceNormalization")
def instance_normalization(call: Call) -> Kernel:
    """Statistics over the spatial axes of each channel of each sample."""
    epsilon = call.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        shape = (1, -1, *[1] * (x.dim() - 2))
        axes = tuple(range(2, x.dim()))
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(var + epsilon) * scale.reshape(shape) + bias.reshape(shape)

    return kernel


@op("GroupNormalization")
def group_normalization(call: Call) -> Kernel:
    """Scale and bias by group up to opset 20, by channel from 21 on."""
    groups, epsilon = call.integer("num_groups", 1), call.real("epsilon", 1e-5)

    def kernel(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
        if call.opset < 21:
            each = x.shape[1] // groups
            scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
        return functional.group_norm(x, groups, scale, bias, epsilon)

    return kernel


@op("LayerNormalization")
def layer_normalization(call: Call) -> Kernel:
    """Statistics over the axes from ``axis`` on."""
    shape, epsilon = call.shape(0), call.real("epsilon", 1e-5)
    axis = call.integer("axis", -1) % len(shape)
    normal, outputs = shape[axis:], len(call.node.outputs)

    def whole(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.layer_norm(x, normal, scale, bias, epsilon)

    def stepwise(x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:
        var, mean = torch.var_mean(x, tuple(range(axis, len(shape))), correction=0, keepdim=True)
        inverse = torch.rsqrt(var + epsilon)
        y = (x - mean) * inverse * scale
        return (y if bias is None else y + bias, mean, inverse)[:outputs]

    exact = outputs == 1 and call.shape(1) == normal and (not call.has(2) or call.shape(2) == normal)
    return whole if exact else (stepwise if outputs > 1 else lambda *xs: stepwise(*xs)[0])


@op("RMSNormalization")
def rms_normalization(call: Call) -> Kernel:
    """Zhang & Sennrich 2019: no mean is subtracted."""
    shape, epsilon = call.shape(0), call.real("epsilon", 1e-5)
    axes = tuple(range(call.integer("axis", -1) % len(shape), len(shape)))
    return lambda x, scale: x * torch.rsqrt((x * x).mean(axes, keepdim=True) + epsilon) * scale


@op("LpNormalization")
def lp_normalization(call: Call) -> Kernel:
    """Divided by the norm along an axis; a vector of zeros stays zero."""
    axis, power = call.integer("axis", -1), call.integer("p", 2)

    def kernel(x: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(x, power, dim=axis, keepdim=True)
        return torch.where(norm == 0, torch.zeros_like(x), x / torch.where(norm == 0, torch.ones_like(norm), norm))

    return kernel


@op("LRN")
def local_response(call: Call) -> Kernel:
    """Krizhevsky et al. 2012: across neighbouring channels."""
    size, alpha = call.integer("size", 1), call.real("alpha", 1e-4)
    beta, bias = call.real("beta", 0.75), call.real("bias", 1.0)

    def kernel(x: Tensor) -> Tensor:
        square = (x * x).flatten(2).transpose(1, 2)
        padded = functional.pad(square, [(size - 1) // 2, size // 2])
        sums = padded.unfold(2, size, 1).sum(-1).transpose(1, 2).reshape(x.shape)
        return x / (bias + alpha / size * sums) ** beta

    return kernel


@op("MeanVarianceNormalization")
def mean_variance(call: Call) -> Kernel:
    """Zero mean and unit variance over the axes."""
    axes = tuple(call.integers("axes") or (0, 2, 3))

    def kernel(x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
        return (x - mean) / (torch.sqrt(var) + 1e-9)

    return kernel


@op("Softmax", "LogSoftmax")
def softmax(call: Call) -> Kernel:
    """Before opset 13 over all axes from ``axis`` on, as one."""
    name, rank = call.node.op_type, call.rank()
    run = functional.softmax if name == "Softmax" else functional.log_softmax
    axis = call.integer("axis", -1 if call.opset >= 13 else 1) % rank
    if call.opset >= 13 or axis == rank - 1:
        return lambda x: run(x, axis)
    return lambda x: run(x.flatten(axis), axis).reshape(x.shape)


@op("Hardmax")
def hardmax(call: Call) -> Kernel:
    """One at the first largest element."""
    axis = call.integer("axis", -1 if call.opset >= 13 else 1)
    return lambda x: torch.zeros_like(x).scatter_(axis, x.argmax(axis, keepdim=True), 1)
