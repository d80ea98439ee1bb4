"""Read from an export's own metadata how its pictures are prepared.

`edgeprune export` writes it for models of torchvision and timm. Ultralytics' own exports say their task and image size.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edgeprune.errors import CalibrationError
from edgeprune.images.preprocessing import PRESETS, Preprocessing

METADATA_KEY = "edgeprune.images"
"""Key in the metadata of an ONNX file."""

_ULTRALYTICS = ("task", "stride", "names")
"""Keys that all exports of Ultralytics have."""


def metadata_text(how: Preprocessing) -> str:
    """The text that `exported_preprocessing` reads back."""
    return json.dumps(asdict(how))


def exported_preprocessing(metadata: Mapping[str, str]) -> tuple[Preprocessing | None, tuple[int, int] | None]:
    """How pictures are prepared for an export, and their (height, width); None for what its metadata does not tell."""
    if METADATA_KEY in metadata:
        try:
            known: dict[str, Any] = json.loads(metadata[METADATA_KEY])
            known |= {key: tuple(map(float, known[key])) for key in ("mean", "std")}
            return Preprocessing(**known), None
        except (KeyError, TypeError, ValueError, CalibrationError):
            return None, None
    if not all(key in metadata for key in _ULTRALYTICS):
        return None, None
    if metadata["task"] == "classify":
        return Preprocessing("crop", name="ultralytics classify"), _image_size(metadata)
    if "rtdetr" in metadata.get("description", "").lower():  # its predictor stretches: LetterBox(scale_fill=True)
        return Preprocessing(resample="opencv", name="ultralytics"), _image_size(metadata)
    return PRESETS["ultralytics"], _image_size(metadata)


def _image_size(metadata: Mapping[str, str]) -> tuple[int, int] | None:
    try:
        size = ast.literal_eval(metadata.get("imgsz", ""))
    except (SyntaxError, ValueError):
        return None
    sides = [size, size] if isinstance(size, int) else list(size) if isinstance(size, (list, tuple)) else []
    return (sides[0], sides[1]) if len(sides) == 2 and all(isinstance(n, int) and n > 0 for n in sides) else None
