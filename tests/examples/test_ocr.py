from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "ocr"


@pytest.fixture(scope="module")
def ocr() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        import ocr

        yield ocr
    finally:
        sys.path.remove(str(FOLDER))
        for name in ("ocr", "lines"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("ab", "ba", 2)],
)
def test_edit_distance(ocr: ModuleType, a: str, b: str, distance: int):
    assert ocr.edit_distance(a, b) == ocr.edit_distance(b, a) == distance


@pytest.mark.parametrize(
    ("classes", "text"), [([0, 1, 1, 0, 1, 2], "aab"), ([1, 1, 1], "a"), ([0, 0], ""), ([2, 0, 2, 1, 0], "bba")]
)
def test_ctc_decoding(ocr: ModuleType, classes: list[int], text: str):
    assert ocr.read(np.eye(3, dtype=np.float32)[classes], ["", "a", "b"]) == text
