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


def mean_iou(run: Run) -> tuple[list[np.ndarray], Callable[[list[np.ndarray]], float]]:
    """Mean intersection over union with the original's masks, percent; if you have labels, compare with them.

    Returns what every image contributes, and how a score is made of them. The mean over classes is no mean over images,
    so edgeprune needs both to say how sure the score is.
    """
    from edgeprune.backends import OnnxRuntime

    original = OnnxRuntime().load(ORIGINAL).run
    return [overlaps(original(feeds)[0], run(feeds)[0]) for feeds in scenes(EVALUATION_IMAGES, seed=1)], over_classes


def overlaps(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Pixels in both masks and in either, of every class: shape (2, classes)."""
    classes = np.arange(wanted.shape[1])[:, None, None, None]
    one, other = wanted.argmax(1) == classes, found.argmax(1) == classes
    return np.stack([(one & other).sum((1, 2, 3)), (one | other).sum((1, 2, 3))])


def over_classes(images: list[np.ndarray]) -> float:
    """Percent, over the classes that are seen."""
    both, either = np.sum(images, axis=0)
    return float(100 * (both[either > 0] / either[either > 0]).mean())
