"""Fit a decoded picture to the size of an input."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgeprune.images.opencv_resize import resize_like_opencv
from edgeprune.images.preprocessing import Preprocessing

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]

_ROUNDING = 1e-6
"""224 / (224 / 232) is 232, whatever floating-point numbers make of it."""


def fitted(image: Image, height: int, width: int, how: Preprocessing) -> Pixels:
    """The picture's pixels in the order of ``how``; shape (height, width, 1 or 3)."""
    pixels = _FITS[how.fit](image, height, width, how)
    return pixels[..., ::-1] if how.order == "BGR" else pixels


def resized_size(size: tuple[int, int], height: int, width: int, how: Preprocessing) -> tuple[int, int]:
    """Width and height to which a picture of this (width, height) is resized, before bars or a crop."""
    old_width, old_height = size
    if how.fit == "stretch":
        return width, height
    if how.fit == "letterbox":
        ratio = min(height / old_height, width / old_width)
        return max(1, round(old_width * ratio)), max(1, round(old_height * ratio))
    if how.fit == "crop":
        # As torchvision: the shorter side is exact, the longer one rounded down.
        least_height, least_width = (math.floor(n / how.fraction + _ROUNDING) for n in (height, width))
        if old_width * least_height <= old_height * least_width:
            return least_width, max(least_height, int(least_width * old_height / old_width))
        return max(least_width, int(least_height * old_width / old_height)), least_height
    return size


def _stretched(image: Image, height: int, width: int, how: Preprocessing) -> Pixels:
    return _resized(image, (width, height), how)


def _letterboxed(image: Image, height: int, width: int, how: Preprocessing) -> Pixels:
    inner = _resized(image, resized_size(image.size, height, width, how), how)
    # As ultralytics' LetterBox: an odd bar has its extra pixel below and on the right.
    top, left = (round((size - n) / 2 - 0.1) for size, n in zip((height, width), inner.shape[:2], strict=True))
    whole = np.full((height, width, inner.shape[2]), how.fill, np.uint8)
    whole[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
    return whole


def _cropped(image: Image, height: int, width: int, how: Preprocessing) -> Pixels:
    pixels = _resized(image, resized_size(image.size, height, width, how), how)
    if (missing := (max(0, height - pixels.shape[0]), max(0, width - pixels.shape[1]))) != (0, 0):
        # As torchvision's CenterCrop: black, the extra pixel of an odd bar below and on the right.
        pixels = np.pad(pixels, [*((n // 2, n - n // 2) for n in missing), (0, 0)])
    top, left = (round((n - size) / 2.0) for n, size in zip(pixels.shape[:2], (height, width), strict=True))
    return pixels[top : top + height, left : left + width]


def _resized(image: Image, size: tuple[int, int], how: Preprocessing) -> Pixels:
    from PIL import Image as Pillow

    if image.size != size and how.resample != "opencv":
        kind = Pillow.Resampling.BICUBIC if how.resample == "bicubic" else Pillow.Resampling.BILINEAR
        image = image.resize(size, kind)
    pixels = np.asarray(image).reshape(image.size[1], image.size[0], -1)
    return pixels if image.size == size else resize_like_opencv(pixels, size[1], size[0])


_FITS = {"stretch": _stretched, "letterbox": _letterboxed, "crop": _cropped, "center": _cropped}
