"""Pooling."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from edgeprune.executor.registry import Call, Kernel, Tensor, op
from edgeprune.executor.windows import Window, window_of

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@op("GlobalAveragePool")
def global_average_pool(call: Call) -> Kernel:
    """The mean over all spatial axes."""
    axes = tuple(range(2, call.rank()))
    return lambda x: x.mean(axes, keepdim=True)


@op("GlobalMaxPool")
def global_max_pool(call: Call) -> Kernel:
    """The maximum over all spatial axes."""
    axes = tuple(range(2, call.rank()))
    return lambda x: torch.amax(x, axes, keepdim=True)


@op("MaxPool")
def max_pool(call: Call) -> Kernel:
    """Padding counts as minus infinity; the positions of the maxima are those in the unpadded input."""
    window = _rounded(call, window_of(call))
    run, indices = _MAX[window.dims], len(call.node.outputs) > 1
    easy = window.begin == window.end and all(2 * p <= k for p, k in zip(window.begin, window.kernel, strict=True))
    before, padding = ([], window.begin) if easy else window.split_padding()
    if not easy and not before:
        before, padding = [p for p in window.begin[::-1] for _ in (0, 1)], [0] * window.dims
    lengths, integers = call.shape(0)[2:], not _floats(call)

    def kernel(x: Tensor) -> Tensor:
        y = x.float() if integers else x
        y = functional.pad(y, before, value=-math.inf) if before else y
        if not indices:
            found = run(y, window.kernel, window.strides, padding, window.dilations)
            return found.to(x.dtype) if integers else found
        found, flat = run(y, window.kernel, window.strides, padding, window.dilations, return_indices=True)
        return found.to(x.dtype), _positions(call, flat, tuple(y.shape[2:]), lengths, window if before else None)

    return kernel


@op("AveragePool")
def average_pool(call: Call) -> Kernel:
    """The mean over each window, with or without the padding."""
    window = window_of(call)
    include = bool(call.integer("count_include_pad", 0))
    rounded = _rounded(call, window)
    run = _AVERAGE[window.dims]
    plain = all(d == 1 for d in window.dilations) and rounded == window and window.begin == window.end
    if plain and all(2 * p <= k for p, k in zip(window.begin, window.kernel, strict=True)):
        return lambda x: run(x, window.kernel, window.strides, window.begin, False, include)
    counted, beyond = _pads(window), _pads(rounded, window)

    def kernel(x: Tensor) -> Tensor:
        ones = torch.ones_like(x[:1, :1])
        x = functional.pad(x, counted)
        ones = functional.pad(ones, counted, value=float(include))
        x, ones = functional.pad(x, beyond), functional.pad(ones, beyond)
        return _sums(x, window) / _sums(ones, window)

    return kernel


@op("LpPool")
def lp_pool(call: Call) -> Kernel:
    """The p-norm over each window."""
    window, power = _rounded(call, window_of(call)), call.integer("p", 2)
    return lambda x: _sums(functional.pad(x, _pads(window)).abs() ** power, window) ** (1 / power)


@op("GlobalLpPool")
def global_lp_pool(call: Call) -> Kernel:
    """The p-norm over all spatial axes."""
    axes, power = tuple(range(2, call.rank())), call.integer("p", 2)
    return lambda x: (x.abs() ** power).sum(axes, keepdim=True) ** (1 / power)


def _sums(x: Tensor, window: Window) -> Tensor:
    """Sums over windows without padding: a depthwise convolution with ones, which knows dilations."""
    run = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[window.dims]
    ones = x.new_ones((x.shape[1], 1, *window.kernel))
    return run(x, ones, None, window.strides, 0, window.dilations, x.shape[1])


def _pads(window: Window, less: Window | None = None) -> list[int]:
    """Padding as PyTorch takes it, last axis first; without what another window pads already."""
    begin = [b - (less.begin[i] if less else 0) for i, b in enumerate(window.begin)]
    end = [e - (less.end[i] if less else 0) for i, e in enumerate(window.end)]
    return [p for pair in zip(begin[::-1], end[::-1], strict=True) for p in pair]


def _rounded(call: Call, window: Window) -> Window:
    """The window with the padding at the end that ``ceil_mode`` needs; no window starts in that padding."""
    if not call.integer("ceil_mode", 0):
        return window
    end = list(window.end)
    for i, length in enumerate(call.shape(0)[2:]):
        reach = (window.kernel[i] - 1) * window.dilations[i] + 1
        room = length + window.begin[i] + window.end[i] - reach
        steps = -(-room // window.strides[i])
        if steps * window.strides[i] >= length + window.begin[i]:
            steps -= 1
        end[i] += max(0, steps * window.strides[i] - room)
    return Window(window.kernel, window.strides, window.dilations, window.begin, end)


def _floats(call: Call) -> bool:
    x = call.inputs[0]
    return x is not None and bool(x.is_floating_point())


def _positions(
    call: Call, flat: Tensor, padded: tuple[int, ...], lengths: tuple[int, ...], window: Window | None
) -> Tensor:
    """Flat positions in the whole input, as ONNX counts them."""
    parts = []
    for i in reversed(range(len(padded))):
        parts.append(flat % padded[i] - (window.begin[i] if window else 0))
        flat = flat // padded[i]
    parts.reverse()
    order = range(len(lengths))
    if call.integer("storage_order", 0):
        order = reversed(range(len(lengths)))  # type: ignore[assignment]
    position, total = torch.zeros_like(parts[0]), int(math.prod(lengths))
    for i in order:
        position = position * lengths[i] + parts[i]
    planes = torch.arange(flat.shape[0] * flat.shape[1], device=flat.device)
    return position + total * planes.reshape(flat.shape[0], flat.shape[1], *[1] * len(lengths))
