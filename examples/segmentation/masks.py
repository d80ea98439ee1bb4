"""The two functions that edgeprune calls for a segmentation model: calibration data, and the agreement of masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

SIZE = int(os.environ.get("SIZE", "256"))
CALIBRATION_IMAGES = 32
EVALUATION_IMAGES = 16
ORIGINAL = os.environ.get("MODEL_FILE", "segmentation.onnx")

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def scenes(count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """Coloured regions; put your own images here, normalized as in training."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        cells = int(random.integers(2, 9))
        rows = np.arange(SIZE) * cells // SIZE
        regions = random.uniform(-2, 2, (3, cells, cells))[:, rows][:, :, rows]
        yield {"images": (regions + random.normal(0, 0.1, (3, SIZE, SIZE))).astype(np.float32)[None]}


def calibration() -> Iterator[dict[str, np.ndarray]]:
    yield from scenes(CALIBRATION_IMAGES, seed=0)


def mean_iou(run: Run) -> float:
    """Mean intersection over union with the original's masks, percent; if you have labels, compare with them."""
    from edgeprune.backends import OnnxRuntime

    original = OnnxRuntime().load(ORIGINAL).run
    both, either = np.zeros(0), np.zeros(0)
    for feeds in scenes(EVALUATION_IMAGES, seed=1):
        wanted, found = (model(feeds)[0] for model in (original, run))
        classes = wanted.shape[1]
        if not both.size:
            both, either = np.zeros(classes), np.zeros(classes)
        for c in range(classes):
            a, b = wanted.argmax(1) == c, found.argmax(1) == c
            both[c] += (a & b).sum()
            either[c] += (a | b).sum()
    seen = either > 0
    return float(100 * (both[seen] / either[seen]).mean())
