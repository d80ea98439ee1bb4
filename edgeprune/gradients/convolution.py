"""Gradients of convolutions: of the input by the transposed convolution, of the kernel by a MatMul of patches.

For the former see Dumoulin & Visin 2016, "A guide to convolution arithmetic", section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.gradients.tape import Call, InputGradients, Shape, Tape, Unsupported, gradient


@dataclass(frozen=True)
class Geometry:
    """A convolution from a wide tensor (N, groups * channels, *wide) to (N, groups * outputs, *narrow)."""

    groups: int
    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape
    after: Shape
    wide: Shape
    narrow: Shape

    @property
    def attributes(self) -> dict[str, object]:
        """The attributes of a Conv or ConvTranspose."""
        return {
            "group": self.groups,
            "strides": list(self.stride),
            "dilations": list(self.dilation),
            "pads": [*self.before, *self.after],
        }

    @property
    def is_pointwise(self) -> bool:
        """Whether it is one matrix multiplication at every position."""
        return self.groups == 1 == max(*self.kernel, *self.stride) and not any((*self.before, *self.after))

    @property
    def padded(self) -> Shape:
        """Spatial sizes of the wide tensor with its padding."""
        return tuple(w + b + a for w, b, a in zip(self.wide, self.before, self.after, strict=True))

    @property
    def left_over(self) -> list[int]:
        """Trailing positions of the padded wide tensor that no patch reaches."""
        return [
            w + b + a - (o - 1) * s - (k - 1) * d - 1
            for w, b, a, o, s, k, d in zip(
                self.wide, self.before, self.after, self.narrow, self.stride, self.kernel, self.dilation, strict=True
            )
        ]


def geometry_of(call: Call, kernel: Shape, wide: Shape, narrow: Shape) -> Geometry:
    """The geometry by the attributes of a convolution or pooling. Raises Unsupported if they do not give it."""
    rank, attributes = len(kernel), call.node.attributes
    ones = (1,) * rank
    stride = tuple(attributes.get_ints("strides", ones))
    dilation = tuple(attributes.get_ints("dilations", ones))
    pads = tuple(attributes.get_ints("pads", (0,) * (2 * rank)))
    before, after = pads[:rank], pads[rank:]
    mode = attributes.get_string("auto_pad", "NOTSET")
    if mode.startswith("SAME") or "output_shape" in attributes:
        totals = [
            max(0, (o - 1) * s + (k - 1) * d + 1 - w)
            for o, s, k, d, w in zip(narrow, stride, kernel, dilation, wide, strict=True)
        ]
        if mode != "SAME_UPPER" and mode != "SAME_LOWER":
            raise Unsupported("a ConvTranspose with output_shape")
        less, more = tuple(t // 2 for t in totals), tuple(t - t // 2 for t in totals)
        before, after = (less, more) if mode == "SAME_UPPER" else (more, less)
    elif mode == "VALID":
        before = after = (0,) * rank
    return Geometry(attributes.get_int("group", 1), kernel, stride, dilation, before, after, wide, narrow)


@gradient("Conv")
def _conv(call: Call) -> InputGradients:
    tape, dy, w = call.tape, call.first_dy, call.x(1)
    geometry = geometry_of(call, call.shape(w)[2:], call.shape(call.x(0))[2:], call.shape(call.y)[2:])
    dx = dw = None
    if call.wants(0) and geometry.is_pointwise:
        dx = tape.op("Conv", dy, tape.transposed(w, [1, 0, *range(2, 2 + len(geometry.kernel))]))
    elif call.wants(0):
        dx = tape.op("ConvTranspose", dy, w, **geometry.attributes, output_padding=geometry.left_over)
    if call.wants(1):
        dw = _kernel_gradient(tape, geometry, call.x(0), call.shape(call.x(0)), dy, call.shape(call.y))
    return dx, dw, _bias_gradient(call)


@gradient("ConvTranspose")
def _conv_transpose(call: Call) -> InputGradients:
    tape, dy, w = call.tape, call.first_dy, call.x(1)
    geometry = geometry_of(call, call.shape(w)[2:], call.shape(call.y)[2:], call.shape(call.x(0))[2:])
    dx = dw = None
    if call.wants(0):
        rank = len(geometry.narrow)
        whole = tape.op("Conv", dy, w, **geometry.attributes)
        dx = tape.sliced(whole, [0] * rank, geometry.narrow, range(2, 2 + rank))
    if call.wants(1):
        dw = _kernel_gradient(tape, geometry, dy, call.shape(call.y), call.x(0), call.shape(call.x(0)))
    return dx, dw, _bias_gradient(call)


def _bias_gradient(call: Call) -> ir.Value | None:
    others = [axis for axis in range(len(call.shape(call.y))) if axis != 1]
    return call.tape.summed(call.first_dy, others) if call.wants(2) else None


def _kernel_gradient(
    tape: Tape, geometry: Geometry, wide: ir.Value, wide_shape: Shape, narrow: ir.Value, narrow_shape: Shape
) -> ir.Value:
    """Sum over positions of narrow times the patch of wide: shape (narrow channels, wide channels a group, *kernel)."""
    batch, groups = wide_shape[0], geometry.groups
    per_group, outputs = wide_shape[1] // groups, narrow_shape[1]
    if groups == 1 or per_group * outputs // groups >= 64:
        return _by_matmul(tape, geometry, wide, wide_shape, narrow, narrow_shape)
    # Few channels a group: one convolution whose kernel is the narrow tensor, with batch and channels exchanged.
    split = tape.reshaped(wide, (batch, groups, per_group, *geometry.wide))
    rank = len(geometry.kernel)
    turned = tape.transposed(split, [2, 1, 0, *range(3, 3 + rank)])
    turned = tape.reshaped(turned, (per_group, groups * batch, *geometry.wide))
    kernel = tape.transposed(narrow, [1, 0, *range(2, 2 + rank)])
    after = [a - over for a, over in zip(geometry.after, geometry.left_over, strict=True)]
    if min(after) < 0:  # positions that no patch reaches are cut off instead of padded
        ends = [w + min(0, a) for w, a in zip(geometry.wide, after, strict=True)]
        turned = tape.sliced(turned, [0] * rank, ends, range(2, 2 + rank))
    pads = [*geometry.before, *(max(0, a) for a in after)]
    steps = {"strides": list(geometry.dilation), "dilations": list(geometry.stride)}
    product = tape.op("Conv", turned, kernel, group=groups, **steps, pads=pads)
    return tape.transposed(product, [1, 0, *range(2, 2 + rank)])


def _by_matmul(
    tape: Tape, geometry: Geometry, wide: ir.Value, wide_shape: Shape, narrow: ir.Value, narrow_shape: Shape
) -> ir.Value:
    """The same as one MatMul over all samples and positions: narrow channels by patches of the wide tensor.

    If the kernel has stride 1 along its first axis, the rows of the wide tensor that it reads overlap. Then the narrow
    tensor is shifted instead of the wide one if that copies less.
    """
    batch, groups, rank = wide_shape[0], geometry.groups, len(geometry.kernel)
    per_group, outputs = wide_shape[1] // groups, narrow_shape[1] // groups
    if any(geometry.before) or any(geometry.after):
        wide = tape.op("Pad", wide, tape.constant([0, 0, *geometry.before, 0, 0, *geometry.after]))
    rows, height, moved = 1, geometry.narrow[0], [narrow]
    if _moves_rows(geometry, per_group, outputs):
        rows, height, rest = geometry.kernel[0], geometry.padded[0], [0] * (rank - 1)
        before = [row * geometry.dilation[0] for row in range(rows)]
        over = height - geometry.narrow[0]
        moved = [tape.op("Pad", narrow, tape.constant([0, 0, b, *rest, 0, 0, over - b, *rest])) for b in before]
    offsets = np.ndindex(*((1, *geometry.kernel[1:]) if rows > 1 else geometry.kernel))
    seen = [_patches_at(tape, geometry, wide, offset, whole_rows=rows > 1) for offset in offsets]
    positions = batch * height * int(np.prod(geometry.narrow[1:]))

    def channels_first(values: list[ir.Value], channels: int) -> ir.Value:
        turned = [tape.transposed(v, [1, 0, *range(2, 2 + rank)]) if batch > 1 else v for v in values]
        parts = [tape.reshaped(v, (groups, channels, positions)) for v in turned]
        return parts[0] if len(parts) == 1 else tape.op("Concat", *parts, axis=1)

    left, right = channels_first(moved, outputs), channels_first(seen, per_group)
    product = tape.op("MatMul", left, tape.transposed(right, [0, 2, 1]))
    if rows > 1:  # transpose one axis at a time: the runtime then copies contiguous blocks
        product = tape.transposed(tape.reshaped(product, (groups, rows, outputs, len(seen) * per_group)), [0, 2, 1, 3])
    if rows * len(seen) > 1:
        split = tape.reshaped(product, (groups * outputs, rows * len(seen), per_group))
        product = tape.transposed(split, [0, 2, 1])
    return tape.reshaped(product, (groups * outputs, per_group, *geometry.kernel))


def _moves_rows(geometry: Geometry, per_group: int, outputs: int) -> bool:
    """Whether shifting the narrow tensor along the first axis copies less than shifting the wide one."""
    rows = geometry.kernel[0]
    columns = int(np.prod(geometry.kernel[1:]))
    return geometry.stride[0] == 1 < rows and rows * outputs + columns * per_group < rows * columns * per_group


def _patches_at(tape: Tape, geometry: Geometry, padded: ir.Value, offset: Shape, *, whole_rows: bool) -> ir.Value:
    """The values of the padded wide tensor that one kernel position reads, at all narrow positions or in all rows."""
    starts = [o * d for o, d in zip(offset, geometry.dilation, strict=True)]
    reach = [(n - 1) * s + 1 for n, s in zip(geometry.narrow, geometry.stride, strict=True)]
    steps = list(geometry.stride)
    if whole_rows:
        reach[0] = geometry.padded[0]
    if list(geometry.padded) == reach and all(s == 1 for s in steps):
        return padded
    ends = [start + r for start, r in zip(starts, reach, strict=True)]
    return tape.sliced(padded, starts, ends, range(2, 2 + len(reach)), steps)
