"""Resizing of maps, and sampling at given positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from edgeprune.executor.registry import Call, Kernel, Tensor, ints, op

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Axis:
    """One axis that is resized: its lengths, its scale, and where it is cropped (relative to its length)."""

    axis: int
    before: int
    after: int
    scale: float
    start: float
    end: float


@op("Resize", host=(1, 2, 3))
def resize(call: Call) -> Kernel:
    """By scales or to sizes; each axis is interpolated by itself, with PyTorch's own kernel where it does the same."""

    def kernel(
        x: Tensor, roi: Tensor | None = None, scales: Tensor | None = None, sizes: Tensor | None = None
    ) -> Tensor:
        axes = _axes(call, tuple(x.shape), roi, scales, sizes)
        mode, place = call.text("mode", "nearest"), call.text("coordinate_transformation_mode", "half_pixel")
        quick = _quick(call, x, axes, mode, place)
        if quick is not None:
            return quick
        for one in axes:
            x = _interpolated(call, x, one, mode, place)
        return x

    return kernel


@op("Upsample", host=(1,))
def upsample(call: Call) -> Kernel:
    """The Resize of old opsets."""
    fixed = call.attributes.get("scales")

    def kernel(x: Tensor, scales: Tensor | None = None) -> Tensor:
        given = scales.tolist() if scales is not None else list(fixed.as_floats() if fixed else [])
        for axis, scale in enumerate(given):
            length = x.shape[axis]
            if scale != 1:
                one = _Axis(axis, length, math.floor(length * scale), scale, 0.0, 1.0)
                x = _interpolated(call, x, one, call.text("mode", "nearest"), "asymmetric", "floor")
        return x

    return kernel


def _axes(
    call: Call, shape: Sequence[int], roi: Tensor | None, scales: Tensor | None, sizes: Tensor | None
) -> list[_Axis]:
    where = call.integers("axes") or list(range(len(shape)))
    where = [a % len(shape) for a in where]
    crop = [0.0] * len(where) + [1.0] * len(where)
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" and roi is not None:
        crop = [float(r) for r in roi.tolist()]
    found = []
    if sizes is not None and sizes.numel():
        lengths = ints(sizes)
        ratios = [n / shape[a] for n, a in zip(lengths, where, strict=True)]
        policy = call.text("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            ratios = [ratio] * len(where)
            lengths = [math.floor(ratio * shape[a] + 0.5) for a in where]
    else:
        assert scales is not None
        ratios = [float(s) for s in scales.reshape(-1).tolist()]
        lengths = [math.floor(shape[a] * s * (crop[i + len(where)] - crop[i])) for i, (a, s) in
                   enumerate(zip(where, ratios, strict=True))]  # fmt: skip
    for i, (axis, ratio, after) in enumerate(zip(where, ratios, lengths, strict=True)):
        start, end = crop[i], crop[i + len(where)]
        if ratio != 1 or after != shape[axis] or (start, end) != (0.0, 1.0):
            found.append(_Axis(axis, shape[axis], after, ratio, start, end))
    return found


def _quick(call: Call, x: Tensor, axes: list[_Axis], mode: str, place: str) -> Tensor | None:
    """The result by PyTorch's own kernels, which are faster, or None where they do something else."""
    if not axes or x.dim() != 4 or any(a.axis < 2 for a in axes) or not x.is_floating_point():
        return None
    by = {a.axis: a for a in axes}
    size = tuple(by[i].after if i in by else x.shape[i] for i in (2, 3))
    exact = all(abs(a.after - a.before * a.scale) < 1e-3 for a in axes)
    if not exact or call.integer("antialias", 0):
        return None
    if mode == "nearest":
        whole, rounding = all(a.after % a.before == 0 for a in axes), call.text("nearest_mode", "round_prefer_floor")
        floors = place == "asymmetric" and rounding == "floor"
        centred = place in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and rounding[:5] == "round"
        # With a whole factor these rules repeat every pixel.
        if whole and (floors or (centred and all(a.after > 1 for a in axes))):
            return functional.interpolate(x, size=size, mode="nearest")
        return None
    if mode == "linear" and place in ("half_pixel", "pytorch_half_pixel") and all(a.after > 1 for a in axes):
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
    if mode == "linear" and place == "align_corners":
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
    return None


def _interpolated(call: Call, x: Tensor, one: _Axis, mode: str, place: str, rounding: str = "") -> Tensor:
    """One axis resized: a choice of positions, or a product with a matrix of shape (after, before)."""
    positions = _positions(one, place)
    rounding = rounding or call.text("nearest_mode", "round_prefer_floor")
    if mode == "nearest":
        near = {
            "round_prefer_floor": np.ceil(positions - 0.5),
            "round_prefer_ceil": np.floor(positions + 0.5),
            "floor": np.floor(positions),
            "ceil": np.ceil(positions),
        }[rounding]
        places = torch.from_numpy(np.clip(near, 0, one.before - 1).astype(np.int64)).to(x.device)
        y = x.index_select(one.axis, places)
        outside = None
    else:
        weights = torch.from_numpy(_weights(call, one, positions, mode)).to(x.device, x.dtype)
        y = (x.movedim(one.axis, -1) @ weights.t()).movedim(-1, one.axis)
        outside = None
    if place == "tf_crop_and_resize":
        outside = (positions < 0) | (positions > one.before - 1)
        mask = torch.from_numpy(outside).to(x.device).reshape([-1 if a == one.axis else 1 for a in range(x.dim())])
        y = torch.where(mask, torch.full_like(y, call.real("extrapolation_value", 0.0)), y)
    return y


def _positions(one: _Axis, place: str) -> Floats:
    """Where every element of the result lies on the axis before."""
    x, scale = np.arange(one.after, dtype=np.float64), one.scale
    if place == "align_corners":
        reach = scale * one.before - 1  # of the length before it is rounded down
        return np.asarray(x * (one.before - 1) / reach) if reach > 0 else np.zeros(one.after)
    if place == "asymmetric":
        return np.asarray(x / scale)
    if place == "tf_crop_and_resize":
        if one.after == 1:
            return np.asarray([0.5 * (one.start + one.end) * (one.before - 1)])
        step = (one.end - one.start) * (one.before - 1) / (one.after - 1)
        return np.asarray(one.start * (one.before - 1) + x * step)
    if place == "pytorch_half_pixel" and one.after == 1:
        return np.zeros(1)
    if place == "half_pixel_symmetric":
        adjustment = one.after / (scale * one.before)
        centre = one.before / 2
        return np.asarray(centre * (1 - adjustment) + (x + 0.5) / scale - 0.5)
    return np.asarray((x + 0.5) / scale - 0.5)


def _weights(call: Call, one: _Axis, positions: Floats, mode: str) -> Floats:
    """Weight of every element before in every element after; shape (after, before)."""
    wide = 1 / min(1.0, one.scale) if call.integer("antialias", 0) else 1.0
    reach = (1 if mode == "linear" else 2) * wide
    exclude = bool(call.integer("exclude_outside", 0))
    a = call.real("cubic_coeff_a", -0.75)
    found = np.zeros((one.after, one.before))
    for row, position in enumerate(positions):
        taps = np.arange(math.floor(position - reach), math.ceil(position + reach) + 1)
        distance = np.abs(taps - position) / wide
        weight = np.maximum(0, 1 - distance) if mode == "linear" else _cubic(distance, a)
        if exclude:
            weight = np.where((taps < 0) | (taps >= one.before), 0.0, weight)
        weight = weight / weight.sum()
        np.add.at(found[row], np.clip(taps, 0, one.before - 1), weight)
    return found


def _cubic(d: Floats, a: float) -> Floats:
    """Keys 1981, equation 4."""
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


@op("GridSample")
def grid_sample(call: Call) -> Kernel:
    """Sampling at positions between -1 and 1."""
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(m := call.text("mode", "linear"), m)
    edges, corners = call.text("padding_mode", "zeros"), bool(call.integer("align_corners", 0))
    return lambda x, grid: functional.grid_sample(x, grid, mode=mode, padding_mode=edges, align_corners=corners)
