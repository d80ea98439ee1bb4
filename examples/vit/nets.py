"""A vision transformer with its checkpoint, and calibration data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

MODEL = os.environ.get("MODEL", "vit_tiny_patch16_224")
CHECKPOINT = os.environ.get("CHECKPOINT", "")
IMAGES = 48


def vit() -> tuple[Any, Any]:
    """The module and an example of its input; put your own here."""
    import timm
    import torch

    torch.manual_seed(0)
    module = timm.create_model(MODEL)
    if CHECKPOINT:
        module.load_state_dict(torch.load(CHECKPOINT, weights_only=True))
    return module.eval(), torch.rand(1, 3, 224, 224)


def calibration() -> Iterator[dict[str, np.ndarray]]:
    """Soft textures with different scales; put a few hundred of your images here."""
    random = np.random.default_rng(0)
    for _ in range(IMAGES):
        cells = int(random.integers(2, 28))
        coarse = random.uniform(-2, 2, (3, cells, cells))
        rows = np.arange(224) * cells // 224
        yield {"x": (coarse[:, rows][:, :, rows] + random.normal(0, 0.2, (3, 224, 224))).astype(np.float32)[None]}


def save() -> None:
    """Write the checkpoint that `edgeprune apply` cuts."""
    import torch

    torch.save(vit()[0].state_dict(), "vit.pt")


if __name__ == "__main__":
    save()
