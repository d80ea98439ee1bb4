from __future__ import annotations

from types import SimpleNamespace

from edgeprune.images.export_metadata import exported_preprocessing
from edgeprune.images.fit_picture import resized_size
from edgeprune.images.preprocessing import PRESETS
from edgeprune.pytorch.image_conventions import of_timm, of_torchvision, of_ultralytics


def test_timm():
    half = (0.5, 0.5, 0.5)
    vit = {"crop_pct": 0.9, "interpolation": "bicubic", "mean": half, "std": half, "crop_mode": "center"}
    how = of_timm(vit)
    assert (how.fit, how.fraction, how.resample, how.mean, how.std) == ("crop", 0.9, "bicubic", half, half)
    assert resized_size((500, 400), 224, 224, how) == (310, 248)
    assert of_timm({"crop_mode": "squash"}).fit == "stretch"
    assert of_timm({}) == PRESETS["timm"]


def test_torchvision():
    transforms = SimpleNamespace(
        crop_size=[224],
        resize_size=[232],
        mean=[0.485] * 3,
        std=[0.229] * 3,
        interpolation="InterpolationMode.BILINEAR",
    )
    how = of_torchvision(transforms)
    assert how is not None
    assert resized_size((500, 400), 224, 224, how) == (290, 232)
    assert of_torchvision(SimpleNamespace()) is None
    segmentation = of_torchvision(SimpleNamespace(resize_size=[520], mean=[0.485] * 3, std=[0.229] * 3))
    assert segmentation is not None
    assert segmentation.fit == "stretch"


def test_ultralytics():
    assert exported_preprocessing(of_ultralytics("detect", "yolov8n"))[0] == PRESETS["ultralytics"]
    stretched, _ = exported_preprocessing(of_ultralytics("detect", "rtdetr-l"))
    assert stretched is not None
    assert (stretched.fit, stretched.resample) == ("stretch", "opencv")
