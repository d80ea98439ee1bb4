"""Presets against what the libraries document, written again here with other code, and against recorded results: the
libraries are no dependency.

ultralytics: LetterBox with auto=False, scaleup=True, center=True (ultralytics/data/augment.py).
timm: transforms_imagenet_eval with crop_mode "center" (timm/data/transforms_factory.py): Resize(floor(size / 0.875)) by
bicubic, CenterCrop(size).
torchvision: ImageClassification (torchvision/transforms/_presets.py): Resize(256) by bilinear, CenterCrop(224).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.images.fit_picture import fitted, resized_size
from edgeprune.images.opencv_resize import resize_like_opencv
from edgeprune.images.preprocessing import PRESETS, Preprocessing


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8))


def letterbox(image: Image.Image, size: int) -> np.ndarray:
    pixels = np.asarray(image)
    old_h, old_w = pixels.shape[:2]
    gain = min(size / old_h, size / old_w)
    new_w, new_h = round(old_w * gain), round(old_h * gain)
    dw, dh = (size - new_w) / 2, (size - new_h) / 2
    top, bottom, left, right = round(dh - 0.1), round(dh + 0.1), round(dw - 0.1), round(dw + 0.1)
    inner = resize_like_opencv(pixels, new_h, new_w)
    return np.pad(inner, ((top, bottom), (left, right), (0, 0)), constant_values=114)


def resize_and_crop(image: Image.Image, shorter: int, size: int, kind: Image.Resampling) -> np.ndarray:
    width, height = image.size
    if width <= height:
        image = image.resize((shorter, int(shorter * height / width)), kind)
    else:
        image = image.resize((int(shorter * width / height), shorter), kind)
    width, height = image.size
    left, top = round((width - size) / 2.0), round((height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


SIZES = [(64, 48), (50, 97), (31, 31), (128, 33), (20, 21)]


@pytest.mark.parametrize("size", SIZES)
def test_ultralytics(size: tuple[int, int]):
    image = picture(*size)
    found = fitted(image, 64, 64, PRESETS["ultralytics"])
    np.testing.assert_array_equal(found, letterbox(image, 64))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("preset", "kind"),
    [
        ("timm", Image.Resampling.BICUBIC),
        ("torchvision", Image.Resampling.BILINEAR),
        ("imagenet", Image.Resampling.BILINEAR),
    ],
)
def test_timm_and_torchvision(size: tuple[int, int], preset: str, kind: Image.Resampling):
    image = picture(*size)
    wanted = resize_and_crop(image, math.floor(56 / 0.875), 56, kind)
    np.testing.assert_array_equal(fitted(image, 56, 56, PRESETS[preset]), wanted)


def test_the_usual_sizes_of_torchvision():
    assert resized_size((500, 375), 224, 224, PRESETS["torchvision"]) == (341, 256)
    assert resized_size((375, 500), 224, 224, PRESETS["torchvision"]) == (256, 341)


def test_a_center_cut_without_a_resize_is_padded_where_the_picture_is_smaller():
    image = picture(30, 9)
    found = fitted(image, 16, 16, Preprocessing("center"))
    np.testing.assert_array_equal(found[3:12], np.asarray(image)[:, 7:23])
    assert found[:3].max() == found[12:].max() == 0


def test_stretching_and_colors():
    image = picture(30, 20)
    red = fitted(image, 8, 6, Preprocessing())
    blue = fitted(image, 8, 6, Preprocessing(order="BGR"))
    assert red.shape == (8, 6, 3)
    np.testing.assert_array_equal(red, blue[..., ::-1])
    assert fitted(image.convert("L"), 8, 6, Preprocessing(order="BGR")).shape == (8, 6, 1)


@pytest.mark.parametrize("fit", ["letterbox", "crop", "stretch"])
def test_other_than_square_sizes(fit: str):
    for size in SIZES:
        assert fitted(picture(*size), 24, 40, Preprocessing(fit, fraction=0.8 if fit == "crop" else 1)).shape == (
            24,
            40,
            3,
        )


def test_the_libraries_themselves_gave_the_same():
    """Recorded once from torchvision 0.28.0, timm 1.0.31 and Ultralytics 8.4.190, Pillow 13.0.0 and OpenCV 5.0.0."""
    y, x = np.mgrid[0:47, 0:61]
    pixels = np.stack([(x * x + 3 * y) % 256, (7 * x + y * y) % 256, (x * y) % 256], -1).astype(np.uint8)
    with np.load(Path(__file__).with_name("presets_of_libraries.npz")) as recorded:
        for preset in ("timm", "torchvision", "ultralytics"):
            found = fitted(Image.fromarray(pixels), 28, 28, PRESETS[preset])
            apart = np.abs(found.astype(int) - recorded[preset])
            # OpenCV rounds a few pixels of its resize the other way.
            assert apart.max() <= (1 if preset == "ultralytics" else 0)
            assert (apart > 0).mean() < 0.002
