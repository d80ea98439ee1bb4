"""Input patches that a convolution's kernel reads, gathered at chosen output positions.

A ConvTranspose is a convolution of stride 1 with a flipped kernel over the input with zeros between its values, so both
are one gather (Dumoulin & Visin 2016, section 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Floats = NDArray[Any]


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution, one number for each spatial axis.

    ``insert`` is the step at which a ConvTranspose spreads its input (1 for a Conv). ``auto_pad`` is SAME_UPPER or
    SAME_LOWER if the padding depends on the input's size, else empty.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    insert: tuple[int, ...]
    auto_pad: str = ""

    @property
    def taps(self) -> int:
        """Number of kernel positions."""
        return int(np.prod(self.kernel))

    def output_space(self, space: tuple[int, ...]) -> tuple[int, ...]:
        """Spatial size of the output for an input of this spatial size."""
        if self.auto_pad:
            return tuple(-(-size // stride) for size, stride in zip(space, self.stride, strict=True))
        sizes = []
        for axis, size in enumerate(space):
            padded = (size - 1) * self.insert[axis] + 1 + self.before[axis] + self.after[axis]
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            sizes.append((padded - reach) // self.stride[axis] + 1)
        return tuple(sizes)

    def patches(self, x: Floats, chosen: NDArray[np.int64], groups: int) -> Floats:
        """Patches of x, shape (batch, channels, *space), at flat positions over batch and output space.

        Returns:
            shape (groups, len(chosen), taps * channels per group), kernel positions first, zeros outside the input.
        """
        space, channels = x.shape[2:], x.shape[1]
        output_space = self.output_space(space)
        batch, *where = np.unravel_index(chosen, (x.shape[0], *output_space))
        at, inside = self._read_positions(where, space, output_space)
        # Channels last costs a copy of x but makes every read contiguous: slower only if few positions are read.
        if at.size * 2 > x[:, 0].size:
            source = np.ascontiguousarray(np.moveaxis(x, 1, -1)).reshape(-1, channels)
            found = source.take(at + batch[:, None] * int(np.prod(space)), axis=0)
        else:
            found = x.reshape(*x.shape[:2], -1)[batch[:, None], :, at]
        if not inside.all():
            found[~inside] = 0
        split = found.reshape(len(chosen), self.taps, groups, channels // groups).transpose(2, 0, 1, 3)
        return np.asarray(split.reshape(groups, len(chosen), -1))

    def _read_positions(
        self, where: Sequence[NDArray[np.int64]], space: tuple[int, ...], output_space: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Flat input position that each kernel position reads, shape (len(chosen), taps), and whether it is inside.

        Outside the input it is the nearest position inside.
        """
        before = self._before(space, output_space)
        offsets = np.indices(self.kernel).reshape(len(self.kernel), -1)
        at = np.zeros((len(where[0]), 1), np.int64)
        inside = np.ones((len(where[0]), 1), np.bool_)
        for axis, place in enumerate(where):
            position = (place * self.stride[axis] - before[axis])[:, None] + offsets[axis] * self.dilation[axis]
            if self.insert[axis] > 1:
                position, between = np.divmod(position, self.insert[axis])
                inside = inside & (between == 0)
            inside = inside & (position >= 0) & (position < space[axis])
            at = at * space[axis] + np.clip(position, 0, space[axis] - 1)
        return at, inside

    def _before(self, space: tuple[int, ...], output_space: tuple[int, ...]) -> tuple[int, ...]:
        """Padding before each spatial axis."""
        if not self.auto_pad:
            return self.before
        reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True)]
        total = [
            max(0, (o - 1) * s + r - i) for o, s, r, i in zip(output_space, self.stride, reach, space, strict=True)
        ]
        return tuple(t // 2 if self.auto_pad == "SAME_UPPER" else t - t // 2 for t in total)


def window_of(node: ir.Node, kernel: tuple[int, ...]) -> Window | None:
    """The geometry of a Conv or ConvTranspose; None if it is not supported (a ConvTranspose with SAME padding)."""
    rank = len(kernel)
    ones = (1,) * rank
    attributes = node.attributes
    stride = tuple(attributes.get_ints("strides", ones))
    dilation = tuple(attributes.get_ints("dilations", ones))
    pads = tuple(attributes.get_ints("pads", (0,) * (2 * rank)))
    auto_pad = attributes.get_string("auto_pad", "NOTSET")
    same = auto_pad.startswith("SAME")
    if auto_pad == "VALID":
        pads = (0,) * (2 * rank)
    if node.op_type == "Conv":
        return Window(kernel, stride, dilation, pads[:rank], pads[rank:], ones, auto_pad if same else "")
    if same or "output_shape" in attributes:
        return None
    extra = tuple(attributes.get_ints("output_padding", (0,) * rank))
    full = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    before = tuple(f - p for f, p in zip(full, pads[:rank], strict=True))
    after = tuple(f - p + e for f, p, e in zip(full, pads[rank:], extra, strict=True))
    return Window(kernel, ones, dilation, before, after, stride)
