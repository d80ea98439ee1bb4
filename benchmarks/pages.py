"""Pages of rendered text for PP-OCR's text detector, and the share of their text that can be read where it finds text.

``edgeprune compile`` calls the functions ``calibration`` and ``characters_found``.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "ocr"))

from lines import HEIGHT, WIDTH, rendered_lines
from ocr import characters, edit_distance, model_file, read

PAGE_HEIGHT, PAGE_WIDTH = 320, 640
ROWS, ROW_HEIGHT = 6, 52
CALIBRATION_PAGES, CALIBRATION_SEED = 64, 11
EVALUATION_PAGES, EVALUATION_SEED = 20, 12
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
THRESHOLD = 0.3
"""For the detector's map, as in PP-OCR's own settings."""
UNCLIP = 1.6
"""The detector marks shrunken text, so a region grows on every side by its area times this over its perimeter."""
LEAST_PIXELS = 30

Page = tuple[list[str], NDArray[np.uint8]]


def calibration() -> Iterator[dict[str, NDArray[np.float32]]]:
    """Feeds of one page each; edgeprune does not get their text."""
    for _, image in pages(CALIBRATION_PAGES, CALIBRATION_SEED):
        yield {"x": normalized(image)}


def characters_found(
    model: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]],
) -> Iterator[tuple[float, int]]:
    """For every page, percent of its characters that the original recogniser reads correctly in the detector's boxes.

    100 minus the edit distances of all rows, in percent of the written characters, whose number comes second.
    """
    recogniser, alphabet = _recogniser(), characters()
    for texts, image in pages(EVALUATION_PAGES, EVALUATION_SEED):
        found: list[list[tuple[int, str]]] = [[] for _ in texts]
        for top, bottom, left, right in boxes(model(normalized(image))[0][0, 0]):
            row = min(len(texts) - 1, (top + bottom) // 2 // ROW_HEIGHT)
            found[row].append((left, read(recogniser(_strip(image[top:bottom, left:right])), alphabet)))
        read_rows = [" ".join(part for _, part in sorted(parts)) for parts in found]
        wrong = sum(min(len(text), edit_distance(mine, text)) for text, mine in zip(texts, read_rows, strict=True))
        written = sum(map(len, texts))
        yield 100 * (1 - wrong / written), written


@cache
def pages(count: int, seed: int) -> list[Page]:
    """Pages that are rendered only once."""
    return list(rendered_pages(count, seed))


def rendered_pages(count: int, seed: int) -> Iterator[Page]:
    """The texts of the rows, and the image, shape (320, 640, 3), BGR; the same for the same seed."""
    choose = random.Random(seed)
    lines = rendered_lines(count * ROWS, seed)
    for _ in range(count):
        paper = choose.randint(200, 255)
        image = np.full((PAGE_HEIGHT, PAGE_WIDTH, 3), paper, np.uint8)
        texts = []
        for row in range(ROWS):
            text, strip = next(lines)
            width = int(np.flatnonzero(strip.any(axis=(0, 1)))[-1]) + 1  # the rest is padding
            left, top = choose.randint(0, PAGE_WIDTH - WIDTH), row * ROW_HEIGHT + 2
            pixels = np.clip((strip[:, :, :width].transpose(1, 2, 0) + 1) * 127.5, 0, 255)
            image[top : top + HEIGHT, left : left + width] = pixels.astype(np.uint8)
            texts.append(text)
        yield texts, image


def normalized(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An input of the detector: shape (1, 3, height, width)."""
    pixels = image.transpose(2, 0, 1)[None].astype(np.float32)
    return (pixels / 255 - MEAN[:, None, None]) / DEVIATION[:, None, None]


def boxes(probability: NDArray[np.float32]) -> Iterator[tuple[int, int, int, int]]:
    """Upright boxes (top, bottom, left, right) around connected regions of a map, shape (height, width)."""
    from scipy import ndimage

    labels, _ = ndimage.label(probability > THRESHOLD)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if (labels[rows, columns] == number).sum() < LEAST_PIXELS:
            continue
        height, width = rows.stop - rows.start, columns.stop - columns.start
        grow = round(height * width * UNCLIP / (2 * (height + width)))
        yield (
            max(0, rows.start - grow),
            min(probability.shape[0], rows.stop + grow),
            max(0, columns.start - grow),
            min(probability.shape[1], columns.stop + grow),
        )


@cache
def _recogniser() -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    from edgeprune.backends import OnnxRuntime

    runner = OnnxRuntime().load(model_file())
    return lambda strip: runner.run({runner.inputs[0].name: strip})[0][0]


def _strip(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A crop as an input of the recogniser: shape (1, 3, 48, 320), -1 to 1, padded with zeros on the right."""
    width = min(WIDTH, max(1, round(pixels.shape[1] * HEIGHT / pixels.shape[0])))
    resized = np.asarray(Image.fromarray(pixels).resize((width, HEIGHT), Image.Resampling.BILINEAR), np.float32)
    strip = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    strip[0, :, :, :width] = (resized / 127.5 - 1).transpose(2, 0, 1)
    return strip
