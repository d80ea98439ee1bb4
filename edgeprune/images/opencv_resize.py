"""OpenCV's linear resize of 8-bit pixels (cv2.resize with INTER_LINEAR), in NumPy.

Unlike Pillow's, it takes the two nearest pixels on each axis also when it shrinks. It computes with weights of 11 bits,
which this follows (OpenCV, modules/imgproc/src/resize.cpp).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

_WEIGHT_BITS = 11


def resize_like_opencv(pixels: Pixels, height: int, width: int) -> Pixels:
    """Pixels of shape (height, width, channels) from pixels with other sides."""
    top, bottom, down = _taps(pixels.shape[0], height)
    left, right, across = _taps(pixels.shape[1], width)
    rows, place = np.unique(np.concatenate([top, bottom]), return_inverse=True)
    lines = pixels[rows]
    weight = across[None, :, None]
    one = 1 << _WEIGHT_BITS
    mixed = lines[:, left].astype(np.int32) * (one - weight) + lines[:, right].astype(np.int32) * weight
    upper, lower = mixed[place[:height]] >> 4, mixed[place[height:]] >> 4
    weight = down[:, None, None]
    summed = ((upper * (one - weight)) >> 16) + ((lower * weight) >> 16)
    found: Pixels = np.clip((summed + 2) >> 2, 0, 255).astype(np.uint8)
    return found


def _taps(size: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
    """For each new position the two old ones, and the weight of the second, as an integer."""
    position = ((np.arange(wanted) + 0.5) * (size / wanted) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    weight = position - first
    weight[first < 0] = 0
    weight[first >= size - 1] = 0
    first = first.clip(0, size - 1)
    rounded = np.rint(weight * (1 << _WEIGHT_BITS)).astype(np.int32)
    return first, (first + 1).clip(0, size - 1), rounded
