from __future__ import annotations

import pytest

from edgeprune.errors import CalibrationError
from edgeprune.images.preprocessing import PRESETS, Preprocessing, parse_fit


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("stretch", ("stretch", 1)),
        ("letterbox", ("letterbox", 1)),
        ("crop:0.875", ("crop", 0.875)),
        ("crop", ("crop", 1)),
    ],
)
def test_fits(text: str, meant: tuple[str, float]):
    assert parse_fit(text) == meant


@pytest.mark.parametrize("text", ["pad", "crop:2", "crop:0", "crop:x", "letterbox:0.5", ""])
def test_no_fits(text: str):
    with pytest.raises(CalibrationError, match="stretch, letterbox, crop, center or crop:FRACTION"):
        parse_fit(text)


def test_single_options_replace_those_of_a_preset():
    how = PRESETS["timm"].given(fit="letterbox", order="BGR", mean=[0.5, 0.5, 0.5])
    assert (how.fit, how.order, how.resample) == ("letterbox", "BGR", "bicubic")
    assert (how.mean, how.std) == ((0.5, 0.5, 0.5), (0.229, 0.224, 0.225))


def test_numbers_above_one_are_of_pixels_up_to_255():
    caffe = Preprocessing(mean=(104.0, 117.0, 123.0))
    mean, std = caffe.statistics(3)
    assert [(p / 255 - m) / s for p, m, s in zip((104, 117, 255), mean, std, strict=True)] == pytest.approx([0, 0, 132])
    torch = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)).statistics(3)
    assert torch[0] == pytest.approx(PRESETS["imagenet"].mean)
    assert torch[1] == pytest.approx(PRESETS["imagenet"].std)
    assert Preprocessing(std=(255.0, 255.0, 255.0)).statistics(3) == ((0, 0, 0), (1, 1, 1))


def test_a_preset_on_a_grey_input():
    mean, std = PRESETS["torchvision"].statistics(1)
    assert mean == pytest.approx((0.449,), abs=1e-3)
    assert std == pytest.approx((0.226,), abs=1e-3)
    with pytest.raises(CalibrationError, match="1 numbers each"):
        Preprocessing(mean=(0.1, 0.2, 0.3)).statistics(1)


def test_what_the_report_says():
    assert "letterboxed, as ultralytics does" in PRESETS["ultralytics"].describe(3)
    assert "center crop of 0.875, as timm does, mean [0.485, 0.456, 0.406]" in PRESETS["timm"].describe(3)
    assert Preprocessing(order="BGR").describe(3).endswith("BGR")
    for wrong in ({"fit": "pad"}, {"order": "GBR"}, {"resample": "nearest"}, {"fraction": 0.0}):
        with pytest.raises(CalibrationError):
            Preprocessing(**wrong)
