"""How a model of a library prepares pictures, as the library itself says; it is kept in the exported file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.images import PRESETS, Preprocessing


def of_timm(config: Mapping[str, Any]) -> Preprocessing:
    """Of ``timm.data.resolve_model_data_config``: transforms for evaluation."""
    fits = {"center": "crop", "squash": "stretch", "border": "letterbox"}
    fit = fits.get(str(config.get("crop_mode", "center")), "crop")
    return Preprocessing(
        fit,
        float(config.get("crop_pct") or 0.875) if fit == "crop" else 1.0,
        "bilinear" if config.get("interpolation") == "bilinear" else "bicubic",
        mean=tuple(map(float, config.get("mean", PRESETS["timm"].mean))),
        std=tuple(map(float, config.get("std", PRESETS["timm"].std))),
        name="timm",
    )


def of_torchvision(transforms: Any) -> Preprocessing | None:
    """Of the transforms of a model's weights; None if they do not say how they normalize."""
    if not hasattr(transforms, "mean") or not hasattr(transforms, "std"):
        return None
    crop, resize = (getattr(transforms, name, None) for name in ("crop_size", "resize_size"))
    bicubic = "bicubic" in str(getattr(transforms, "interpolation", "")).lower()
    return Preprocessing(
        "crop" if crop and resize else "stretch",
        min(1.0, crop[0] / resize[0]) if crop and resize else 1.0,
        "bicubic" if bicubic else "bilinear",
        mean=tuple(map(float, transforms.mean)),
        std=tuple(map(float, transforms.std)),
        name="torchvision",
    )


def of_ultralytics(task: str, name: str) -> dict[str, str]:
    """The metadata that ultralytics' own exporter writes."""
    return {"description": f"Ultralytics {name} model", "task": task, "stride": "32", "names": "{}"}
