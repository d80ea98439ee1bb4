"""Convolutions."""

from __future__ import annotations

from torch.nn import functional

from edgeprune.executor.registry import Call, Kernel, Tensor, op
from edgeprune.executor.windows import Window, window_of

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@op("Conv")
def conv(call: Call) -> Kernel:
    """A convolution; padding that differs from side to side is added before it."""
    window = window_of(call, kernel=call.shape(1)[2:])
    run, groups = _CONV[window.dims], call.integer("group", 1)
    before, padding = window.split_padding()

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = functional.pad(x, before) if before else x
        return run(x, weight, bias, window.strides, padding, window.dilations, groups)

    return kernel


@op("ConvTranspose")
def conv_transpose(call: Call) -> Kernel:
    """The full output is computed, and cut by the padding, which may differ from side to side."""
    window = window_of(call, kernel=call.shape(1)[2:])
    run, groups = _TRANSPOSE[window.dims], call.integer("group", 1)
    extra = call.integers("output_padding") or [0] * window.dims
    sizes = call.integers("output_shape")
    begin, end = _transposed_padding(call, window, extra, sizes)
    even = begin == end and min(begin) >= 0

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if even:
            return run(x, weight, bias, window.strides, begin, extra, groups, window.dilations)
        full = run(x, weight, bias, window.strides, 0, 0, groups, window.dilations)
        # Negative padding cuts; where more is asked for than there is, it holds the bias alone.
        cuts = [c for b, e, p in zip(begin[::-1], end[::-1], extra[::-1], strict=True) for c in (-b, p - e)]
        if max(cuts) <= 0 or bias is None:
            return functional.pad(full, cuts)
        shift = bias.reshape(1, -1, *[1] * window.dims)
        return functional.pad(full - shift, cuts) + shift

    return kernel


def _transposed_padding(
    call: Call, window: Window, extra: list[int], sizes: list[int] | None
) -> tuple[list[int], list[int]]:
    """Padding at the begin and the end of every axis; see the operator's text for ``output_shape`` and SAME."""
    mode = call.text("auto_pad", "NOTSET")
    if sizes is None and mode not in ("SAME_UPPER", "SAME_LOWER"):
        return window.begin, window.end
    lengths = call.shape(0)[2:]
    begin, end = [], []
    for i, length in enumerate(lengths):
        reach = (window.kernel[i] - 1) * window.dilations[i] + 1
        wanted = sizes[-window.dims :][i] if sizes else length * window.strides[i]
        whole = window.strides[i] * (length - 1) + extra[i] + reach - wanted
        less, more = whole // 2, whole - whole // 2
        begin.append(less if mode == "SAME_UPPER" else more)
        end.append(more if mode == "SAME_UPPER" else less)
    return begin, end
