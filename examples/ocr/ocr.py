"""The two functions that edgeprune calls for PP-OCR: calibration data, and the score of a recogniser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
from lines import rendered_lines
from numpy.typing import NDArray

CALIBRATION_LINES, CALIBRATION_SEED = 128, 1
EVALUATION_LINES, EVALUATION_SEED = 150, 2


def calibration() -> Iterator[dict[str, NDArray[np.float32]]]:
    """Feeds of one line each; edgeprune does not get their text."""
    for _, image in lines(CALIBRATION_LINES, CALIBRATION_SEED):
        yield {"x": image[None]}


def characters_correct(
    model: Callable[[NDArray[np.float32]], Sequence[NDArray[np.float32]]],
) -> Iterator[tuple[float, int]]:
    """For every line, percent of its characters read correctly, and their number; calibration does not use them.

    100 minus the edit distance of the read text and the written text in percent of the written characters. With a value
    for each line, the report says how sure the average is.
    """
    alphabet = characters()
    for text, image in lines(EVALUATION_LINES, EVALUATION_SEED):
        wrong = edit_distance(read(model(image[None])[0][0], alphabet), text)
        yield 100 * (1 - wrong / len(text)), len(text)


@cache
def lines(count: int, seed: int) -> list[tuple[str, NDArray[np.float32]]]:
    """Lines that are rendered only once: edgeprune reads its data many times."""
    return list(rendered_lines(count, seed))


def read(probabilities: NDArray[np.float32], alphabet: list[str]) -> str:
    """Greedy CTC decoding of probabilities, shape (steps, classes): repeats count once, class 0 is no character."""
    classes = probabilities.argmax(axis=1)
    starts = np.flatnonzero(np.diff(classes, prepend=0))
    return "".join(alphabet[c] for c in classes[starts] if c)


@cache
def characters() -> list[str]:
    """Class -> character, from the model's own metadata; class 0 is CTC's blank and the last one the space."""
    metadata = {entry.key: entry.value for entry in onnx.load(model_file(), load_external_data=False).metadata_props}
    return ["", *metadata["character"].splitlines(), " "]


def model_file() -> Path:
    """PP-OCRv4's recogniser in the package rapidocr-onnxruntime, which is not imported."""
    package = find_spec("rapidocr_onnxruntime")
    if package is None or package.origin is None:
        raise SystemExit(
            "this example needs a model: pip install --no-deps --ignore-requires-python rapidocr-onnxruntime"
        )
    return Path(package.origin).parent / "models" / "ch_PP-OCRv4_rec_infer.onnx"


def edit_distance(a: str, b: str) -> int:
    """The smallest number of insertions, deletions and replacements from ``a`` to ``b`` (Wagner & Fischer 1974)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
