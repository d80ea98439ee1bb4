"""Kernel windows of convolutions and pooling: strides, dilations and padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.executor.registry import Call


@dataclass(frozen=True)
class Window:
    """A kernel window; one entry for each spatial axis.

    Attributes:
        kernel: lengths.
        strides, dilations: steps.
        begin, end: padding before and after each axis.
    """

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    def split_padding(self) -> tuple[list[int], list[int]]:
        """Padding to add before the operator, last axis first as PyTorch wants it, and what the operator adds."""
        if self.begin == self.end:
            return [], self.begin
        pairs = zip(self.begin[::-1], self.end[::-1], strict=True)
        return [p for pair in pairs for p in pair], [0] * self.dims


def window_of(call: Call, kernel: Sequence[int] | None = None) -> Window:
    """The window of a node whose first input has the spatial axes from axis 2 on."""
    size = [int(k) for k in (kernel or call.integers("kernel_shape") or ())]
    dims = len(size)
    strides, dilations = call.integers("strides") or [1] * dims, call.integers("dilations") or [1] * dims
    mode, pads = call.text("auto_pad", "NOTSET"), call.integers("pads") or [0] * (2 * dims)
    begin, end = pads[:dims], pads[dims:]
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        for i, length in enumerate(call.shape(0)[2:]):
            reach = (size[i] - 1) * dilations[i] + 1
            whole = max(0, (-(-length // strides[i]) - 1) * strides[i] + reach - length)
            less, more = whole // 2, whole - whole // 2
            begin[i], end[i] = (less, more) if mode == "SAME_UPPER" else (more, less)
    elif mode == "VALID":
        begin, end = [0] * dims, [0] * dims
    return Window(size, strides, dilations, begin, end)
