"""The scale and zero point of every activation, and which activations share their quantized values.

The output of an affine op (`edgeprune.passes.quantize.affine_ops`) has the quantized values of its input, read with its
own scale and zero point. Values that are only moved share scale and zero point too. So values form families: each
member is a multiple of one *root* plus a constant. A family gets one step, from the range of all its members. The zero
of each member lies on a step if the zeros are some steps apart, because padding needs zeros and zero points are
integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import asymmetric_scale, representable_scale
from edgeprune.passes.quantize import INFINITE, AffineOp, seen_range
from edgeprune.passes.x86.int8_nodes import CARRY_OPS, data_inputs

SHARED_RANGE_RATIO = 2.0
"""Operands of a Concat share a scale if their ranges differ by at most this factor: moving quantized values is faster
than rescaling them. The output of an affine op is quantized separately if sharing would stretch a range further."""

_STEPS_BETWEEN_ZEROS = 4
"""Two zeros that are at least this many steps apart both lie on a step; for that the steps are made longer."""

_TOP = 255

Bounds = tuple[float, float]


@dataclass(frozen=True, eq=False)
class ActivationScale:
    """The meaning of a quantized value q: ``scale * (q - zero) + offset``.

    The offset is less than a step. It is not 0 if the value's zero lies between two steps.
    """

    scale: NDArray[Any]
    zero: NDArray[Any]
    offset: float = 0.0

    def nearest(self, x: float) -> int:
        """The quantized value nearest to ``x``, in 0..255."""
        return int(np.clip(np.rint((x - self.offset) / float(self.scale)) + float(self.zero), 0, _TOP))


def activation_scales(
    graph: ir.Graph,
    int8: Collection[str],
    quantized: Collection[ir.Value],
    affine_ops: Mapping[ir.Node, AffineOp],
    ranges: Mapping[str, Bounds],
    limits: Mapping[ir.Value, Bounds],
) -> tuple[dict[ir.Value, ActivationScale], dict[ir.Value, Bounds]]:
    """The scale of every activation, and the outputs of affine ops that have to be quantized separately.

    Args:
        graph: sorted.
        int8: names of INT8 nodes.
        quantized: values that are quantized.
        affine_ops: INT8 nodes whose outputs share the quantized values of their inputs, if that stretches no range too
            far.
        ranges: value name -> (low, high), for all of ``quantized``.
        limits: outputs of clips that quantization has to do -> where they clip. No quantized value may lie outside.

    Returns:
        The scales, and value -> range of the affine ops' outputs that do not share.
    """
    families = _Families({v: _seen(v, ranges[str(v.name)]) for v in quantized}, limits)
    apart: dict[ir.Value, Bounds] = {}
    for node in graph:
        if node in affine_ops:
            affine_op, out = affine_ops[node], node.outputs[0]
            if not families.join(out, affine_op):
                low, high = families.range_of(affine_op.source)
                apart[out] = (affine_op(low), affine_op(high))
                families.add(out, apart[out])
        elif node.name in int8 and node.op_type in CARRY_OPS | {"Concat"}:
            moved = [v for v in (*data_inputs(node), *node.outputs) if v in families]
            widths = [high - low for low, high in map(families.range_of, moved)]
            concat = node.op_type == "Concat"
            if concat and max(widths) > SHARED_RANGE_RATIO * min(widths):
                continue
            for v in moved[1:]:
                families.unite(moved[0], v, at_any_cost=not concat)
    return families.scales(), apart


def _seen(value: ir.Value, bounds: Bounds) -> Bounds:
    """The part of a range that the value's readers distinguish."""
    low, high = seen_range(value)
    if low > high:
        return bounds
    return float(np.clip(bounds[0], low, high)), float(np.clip(bounds[1], low, high))


@dataclass(frozen=True)
class _Line:
    """value = slope * root + shift."""

    root: ir.Value
    slope: float
    shift: float

    @property
    def zero(self) -> float:
        """Where the value is 0."""
        return -self.shift / self.slope

    def before(self, interval: Bounds) -> Bounds:
        """The interval of the root that corresponds to an interval of the value."""
        return (interval[0] - self.shift) / self.slope, (interval[1] - self.shift) / self.slope


def _within(inner: Bounds, outer: Bounds) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


class _Families:
    """Values as multiples of roots. Every root has the range and the limits of its family, in the root's unit."""

    def __init__(self, ranges: Mapping[ir.Value, Bounds], limits: Mapping[ir.Value, Bounds]) -> None:
        self._lines: dict[ir.Value, _Line] = {}
        self._bounds: dict[ir.Value, Bounds] = {}
        self._limits: dict[ir.Value, Bounds] = {}
        for value, bounds in ranges.items():
            self.add(value, bounds, limits.get(value, INFINITE))

    def __contains__(self, value: ir.Value) -> bool:
        return value in self._lines

    def add(self, value: ir.Value, bounds: Bounds, limits: Bounds = INFINITE) -> None:
        """Add a family with one member; its range always includes 0."""
        self._lines[value] = _Line(value, 1.0, 0.0)
        low, high = (float(np.clip(end, *limits)) for end in bounds)
        self._bounds[value] = low, high = min(0.0, low), max(0.0, high)
        self._limits[value] = min(low, limits[0]), max(high, limits[1])

    def range_of(self, value: ir.Value) -> Bounds:
        """The range of the value's family, in the value's unit."""
        line = self._line(value)
        low, high = self._bounds[line.root]
        return line.slope * low + line.shift, line.slope * high + line.shift

    def join(self, out: ir.Value, affine_op: AffineOp) -> bool:
        """Add an affine op's output to the family of its source, unless its zero lies too far outside the range."""
        line = self._line(affine_op.source)
        joined = _Line(line.root, affine_op.slope * line.slope, affine_op.slope * line.shift + affine_op.shift)
        low, high = self._bounds[line.root]
        wider = (min(low, joined.zero), max(high, joined.zero))
        if wider[1] - wider[0] > SHARED_RANGE_RATIO * (high - low) or not _within(wider, self._limits[line.root]):
            return False
        self._lines[out], self._bounds[line.root] = joined, wider
        return True

    def unite(self, a: ir.Value, b: ir.Value, *, at_any_cost: bool) -> None:
        """Merge the families of two values between which quantized values are moved, if no limit is exceeded."""
        mine, other = self._line(a), self._line(b)
        if mine.root is other.root:
            return
        # Both values are equal: slope * root + shift. So the other root is a line over mine.
        line = _Line(mine.root, mine.slope / other.slope, (mine.shift - other.shift) / other.slope)
        low, high = line.before(self._bounds[other.root])
        least, most = line.before(self._limits[other.root])
        bounds, limits = self._bounds[mine.root], self._limits[mine.root]
        joint = min(bounds[0], low), max(bounds[1], high)
        if not at_any_cost and not _within(joint, (max(limits[0], least), min(limits[1], most))):
            return
        self._bounds[mine.root] = joint
        self._limits[mine.root] = min(joint[0], max(limits[0], least)), max(joint[1], min(limits[1], most))
        self._lines[other.root] = line

    def _line(self, value: ir.Value) -> _Line:
        line = self._lines[value]
        while self._lines[line.root].root is not line.root:
            above = self._lines[line.root]
            line = _Line(above.root, line.slope * above.slope, line.slope * above.shift + line.shift)
        return line

    def scales(self) -> dict[ir.Value, ActivationScale]:
        """The scale of every value."""
        lines = {value: self._line(value) for value in self._lines}
        zeros: dict[ir.Value, list[float]] = {}
        for line in lines.values():
            zeros.setdefault(line.root, []).append(line.zero)
        steps = {root: _steps(*self._bounds[root], places) for root, places in zeros.items()}
        return {value: _scale(line, *steps[line.root]) for value, line in lines.items()}


def _steps(low: float, high: float, zeros: list[float]) -> tuple[float, int]:
    """(step, zero point of the root) for a range that includes all zeros; the root's own zero is 0."""
    farthest = max(map(abs, zeros))
    scale, zero = asymmetric_scale(low, high)
    between = np.floor(farthest / float(scale))
    if between < _STEPS_BETWEEN_ZEROS:
        return float(scale), int(zero)
    step = float(representable_scale(farthest / between))
    return step, int(np.clip(np.rint(-low / step), 0, _TOP))


def _scale(line: _Line, step: float, root_zero: int) -> ActivationScale:
    # The root's zero lies on a step; the distance of another zero from the nearest step is its offset.
    place = root_zero + line.zero / step
    integer = int(np.clip(np.rint(place), 0, _TOP))
    scale = representable_scale(line.slope * step)
    offset = float(scale) * (integer - place)
    return ActivationScale(scale, np.asarray(integer, np.uint8), 0.0 if abs(offset) < 1e-3 * float(scale) else offset)
