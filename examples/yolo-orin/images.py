"""Calibration images that need no download: rectangles and ellipses on noise.

With them the example runs anywhere. For a real result, use a few hundred of your own images: `--calib FOLDER`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

IMAGES = 32
SIZE = int(os.environ.get("SIZE", "640"))


def calibration() -> Iterator[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    for _ in range(IMAGES):
        yield {"images": scene(random)[None]}


def scene(random: np.random.Generator) -> np.ndarray:
    """An input of YOLO: shape (3, SIZE, SIZE), 0 to 1."""
    image = random.uniform(0.3, 0.7, (3, 1, 1)) + random.normal(0, 0.03, (3, SIZE, SIZE))
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for _ in range(int(random.integers(3, 12))):
        height, width = random.uniform(0.05, 0.4, 2) * SIZE
        top, left = random.uniform(-0.1, 0.9, 2) * SIZE
        inside = (abs(rows - top) < height / 2) & (abs(columns - left) < width / 2)
        if random.random() < 0.5:
            inside = ((rows - top) / height) ** 2 + ((columns - left) / width) ** 2 < 0.25
        image[:, inside] = random.uniform(0, 1, (3, 1))
    return image.clip(0, 1).astype(np.float32)
