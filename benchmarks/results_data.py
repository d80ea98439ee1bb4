"""Data for results.py: what calibrates each network, and what scores it. ``edgeprune compile`` calls these functions.

The pictures and faces are those inside the package scikit-image, the fonts those of matplotlib; nothing is downloaded.
Calibration and scores never share a face, a line of text or a page. Calibration gets no labels.

* CenterFace and nudenet's detector: faces of Labeled Faces in the Wild (25 x 25 pixels, grey), pasted at 40 to 96
  pixels into cut-outs of photographs. The places of the faces are known.
* MTCNN's O-Net: the faces themselves, and cut-outs without a face from the same set.
* PP-LCNet for orientation: pages of rendered text, turned by 0, 90, 180 and 270 degrees.
* PP-OCRv4: rendered lines and pages (``examples/ocr`` and ``pages.py``).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "ocr"))

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Model = Callable[[Any], Sequence[Floats]]
Box = tuple[float, float, float, float]

SIZE = 320
CALIBRATION_SCENES, SCORED_SCENES = 64, 60
BACKGROUNDS = ("chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg", "brick.png", "grass.png", "gravel.png",
               "coins.png", "ihc.png", "retina.jpg", "hubble_deep_field.jpg")  # fmt: skip
"""Photographs without a face."""
LABELLED = 100
"""The set has 100 faces, then 100 cut-outs without a face; every second one calibrates."""
SURE, OVERLAP, SAME = 0.35, 0.3, 0.4
"""CenterFace's threshold and its limit of non-maximum suppression; the least overlap of a face that is found."""


def pictures() -> Path:
    """The folder of pictures in the package scikit-image."""
    package = find_spec("skimage")
    if package is None or package.origin is None:
        raise SystemExit("the results need pictures: pip install scikit-image matplotlib scipy")
    return Path(package.origin).parent / "data"


@cache
def cutouts() -> NDArray[np.float64]:
    """Faces, then cut-outs without one: shape (200, 25, 25), 0 to 1."""
    return np.load(pictures() / "lfw_subset.npy")  # type: ignore[no-any-return]


@cache
def background(name: str) -> Image.Image:
    """A photograph."""
    return Image.open(pictures() / name).convert("RGB")


def scenes(count: int, seed: int, first_face: int) -> Iterator[tuple[Pixels, list[Box]]]:
    """Pictures, shape (320, 320, 3), RGB, and the boxes of their faces: left, top, right, bottom.

    Args:
        count: how many.
        seed: of all choices.
        first_face: 0 or 1: whether the faces of even or odd number are pasted.
    """
    random = np.random.default_rng(seed)
    faces = cutouts()[:LABELLED][first_face::2]
    for _ in range(count):
        photo = background(BACKGROUNDS[random.integers(len(BACKGROUNDS))])
        side = int(min(photo.size) * random.uniform(0.4, 1))
        left, top = (int(random.integers(0, length - side + 1)) for length in photo.size)
        cut = photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        image, boxes = np.array(cut), list[Box]()
        for _ in range(int(random.integers(1, 6))):
            width = int(random.integers(40, 97))
            x, y = (int(v) for v in random.integers(0, SIZE - width, 2))
            face = Image.fromarray((255 * faces[random.integers(len(faces))]).astype(np.uint8))
            if all(_apart((x, y, x + width, y + width), box) for box in boxes):
                image[y : y + width, x : x + width] = np.asarray(face.resize((width, width)))[:, :, None]
                boxes.append((x, y, x + width, y + width))
        yield image, boxes


def _apart(one: Box, other: Box) -> bool:
    return one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def nudenet_calibration() -> Iterator[dict[str, Floats]]:
    """Scenes, 0 to 1."""
    for image, _ in scenes(2 * CALIBRATION_SCENES, 1, 0):
        yield {"images": image.transpose(2, 0, 1)[None].astype(np.float32) / 255}


def nudenet_score(model: Model) -> tuple[list[NDArray[np.int64]], Callable[[list[NDArray[np.int64]]], float]]:
    """As `centerface_score`; but there are no labels, so what the original finds is taken for what is there."""
    from edgeprune.backends import OnnxRuntime

    original = OnnxRuntime().load(os.environ["RESULTS_MODEL"])
    found = []
    for image, _ in scenes(SCORED_SCENES, 2, 1):
        feeds = {"images": image.transpose(2, 0, 1)[None].astype(np.float32) / 255}
        there, mine = _detections(original.run(feeds)[0][0]), _detections(model(feeds)[0][0])
        hits = sum(any(a == b and _overlap(one, other) >= 0.5 for b, other in mine) for a, one in there)
        found.append(np.array([hits, len(mine), len(there)]))
    return found, f1


def _detections(rows: Floats) -> list[tuple[int, Box]]:
    """Class and box of the detections in YOLOv8's output, shape (4 + classes, places), after suppression by class."""
    kept: list[tuple[int, Box]] = []
    scores = rows[4:].max(axis=0)
    for at in np.argsort(-scores):
        if scores[at] <= 0.25:
            break
        x, y, width, height = rows[:4, at]
        box = (float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2))
        kind = int(rows[4:, at].argmax())
        if all(other != kind or _overlap(box, there) <= 0.45 for other, there in kept):
            kept.append((kind, box))
    return kept


def centerface_calibration() -> Iterator[dict[str, Floats]]:
    """Scenes as CenterFace reads them: RGB, 0 to 255."""
    for image, _ in scenes(CALIBRATION_SCENES, 1, 0):
        yield {"input.1": image.transpose(2, 0, 1)[None].astype(np.float32)}


def centerface_score(model: Model) -> tuple[list[NDArray[np.int64]], Callable[[list[NDArray[np.int64]]], float]]:
    """For every scene the faces that are found, and those that are found and those that are there; then their F1."""
    found = []
    for image, boxes in scenes(SCORED_SCENES, 2, 1):
        heat, scale, offset = model(image.transpose(2, 0, 1)[None].astype(np.float32))[:3]
        faces = _faces(heat[0, 0], scale[0], offset[0])
        hits = sum(any(_overlap(box, face) >= SAME for face in faces) for box in boxes)
        found.append(np.array([hits, len(faces), len(boxes)]))
    return found, f1


def f1(scenes_found: list[NDArray[np.int64]]) -> float:
    """Percent: twice the hits in percent of what is found and what is there."""
    hits, found, there = np.sum(scenes_found, axis=0)
    return float(200 * hits / max(1, found + there))


def _faces(heat: Floats, scale: Floats, offset: Floats) -> list[Box]:
    """CenterFace's decoding: a box for each cell above the threshold, without those that overlap a surer one."""
    boxes: list[Box] = []
    rows, columns = np.nonzero(heat > SURE)
    for at in np.argsort(-heat[rows, columns]):
        row, column = rows[at], columns[at]
        height, width = 4 * np.exp(scale[:, row, column])
        y, x = 4 * (np.array([row, column]) + offset[:, row, column] + 0.5)
        box = (float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2))
        if all(_overlap(box, other) <= OVERLAP for other in boxes):
            boxes.append(box)
    return boxes


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union."""
    width = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    height = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    both = width * height
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def onet_calibration() -> Iterator[dict[str, Floats]]:
    """Cut-outs of even number."""
    for cutout in cutouts()[::2]:
        yield {"input_3": _onet_input(cutout)}


def onet_score(model: Model) -> Iterator[float]:
    """For every cut-out of odd number: 100 if it is rightly taken for a face or for none."""
    for number in range(1, 2 * LABELLED, 2):
        _, _, probability = model(_onet_input(cutouts()[number]))
        yield 100.0 * ((probability[0, 1] > 0.5) == (number < LABELLED))


def _onet_input(cutout: NDArray[np.float64]) -> Floats:
    """O-Net's input: shape (1, 48, 48, 3), -1 to 1, columns first."""
    large = Image.fromarray((255 * cutout).astype(np.uint8)).resize((48, 48), Image.Resampling.BICUBIC)
    return ((np.asarray(large, np.float32).T[None, :, :, None].repeat(3, 3)) - 127.5) / 128


def orientation_calibration() -> Iterator[dict[str, Floats]]:
    """Turned pages."""
    for image, _ in _turned(64, 21):
        yield {"x": image}


def orientation_score(model: Model) -> Iterator[float]:
    """For every page: 100 if its turn is found."""
    for image, turns in _turned(120, 22):
        yield 100.0 * (int(model(image)[0][0].argmax()) == turns)


@cache
def _turned(count: int, seed: int) -> list[tuple[Floats, int]]:
    """Inputs of PP-LCNet, shape (1, 3, 224, 224), and how often they are turned by 90 degrees."""
    from pages import normalized, rendered_pages

    found = []
    for number, (_, image) in enumerate(rendered_pages(count, seed)):
        page = Image.fromarray(image[:, : image.shape[0]]).resize((224, 224), Image.Resampling.BILINEAR)
        turns = number % 4
        found.append((normalized(np.rot90(np.asarray(page), -turns).copy()), turns))
    return found
