from __future__ import annotations

from edgeprune.images.export_metadata import METADATA_KEY, exported_preprocessing, metadata_text
from edgeprune.images.preprocessing import PRESETS, Preprocessing

YOLO = {
    "description": "Ultralytics YOLOv8n model",
    "stride": "32",
    "task": "detect",
    "imgsz": "[480, 640]",
    "names": "{}",
}


def test_ultralytics():
    assert exported_preprocessing(YOLO) == (PRESETS["ultralytics"], (480, 640))
    how, size = exported_preprocessing(YOLO | {"task": "classify", "imgsz": "224"})
    assert how is not None
    assert (how.fit, how.fraction, how.mean, size) == ("crop", 1.0, (), (224, 224))
    assert exported_preprocessing(YOLO | {"imgsz": "garbage"}) == (PRESETS["ultralytics"], None)


def test_our_own_exports():
    how = Preprocessing("crop", 0.95, "bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), name="timm")
    assert exported_preprocessing({METADATA_KEY: metadata_text(how)}) == (how, None)
    assert exported_preprocessing({METADATA_KEY: "damaged"}) == (None, None)
    assert exported_preprocessing({METADATA_KEY: '{"fit": "pad", "mean": [], "std": []}'}) == (None, None)
    assert exported_preprocessing({}) == exported_preprocessing({"task": "detect"}) == (None, None)
