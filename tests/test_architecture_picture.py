"""The picture of the rooms is what the imports say, and can be read."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.architecture import ROOMS, ROOT, room_imports

SVG = "{http://www.w3.org/2000/svg}"


def _load() -> Any:
    spec = importlib.util.spec_from_file_location("docs_pictures_rooms", ROOT / "docs" / "pictures" / "rooms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


picture = _load()
TREE = ElementTree.fromstring(picture.FILE.read_text(encoding="utf-8"))


def _numbers(element: ElementTree.Element, *keys: str) -> list[float]:
    return [float(element.get(key, "")) for key in keys]


def boxes() -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of everything framed."""
    found = [_numbers(rect, "x", "y", "width", "height") for rect in TREE.iter(f"{SVG}rect")]
    return [(x, y, x + width, y + height) for x, y, width, height in found]


def points(path: str) -> list[tuple[float, float]]:
    """Points along a line of the picture: straight down, or one cubic curve."""
    x, y, *rest = (float(number) for number in re.findall(r"[\d.]+", path))
    if len(rest) == 1:
        rest = [x, y, x, rest[0], x, rest[0]]
    (ax, ay, bx, by, cx, cy), steps = rest, [k / 50 for k in range(51)]
    weights = [((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3) for t in steps]
    return [(p * x + q * ax + r * bx + s * cx, p * y + q * ay + r * by + s * cy) for p, q, r, s in weights]


def test_the_picture_is_what_the_imports_say():
    """If not: python docs/pictures/rooms.py."""
    picture.main(["--check"])


def test_a_stale_picture_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(picture, "drawn", lambda: "as it should be")
    monkeypatch.setattr(picture, "FILE", tmp_path / "rooms.svg")
    with pytest.raises(SystemExit, match=r"rooms.svg is stale: run `python docs/pictures/rooms.py`"):
        picture.main(["--check"])
    picture.main([])
    picture.main(["--check"])
    with pytest.raises(SystemExit, match="usage"):
        picture.main(["--chekc"])


def test_the_lines_say_every_import():
    """Whoever follows the lines down from a room comes to all that it imports, and to nothing else."""
    down = {room: set(picture.imports_to_draw(room)) for room in ROOMS}
    for room in ROOMS:
        reached, ahead = set[str](), set(down[room])
        while ahead:
            reached |= ahead
            ahead = {other for one in ahead for other in down[one]} - reached
        assert room_imports()[room] <= reached == picture.below(room)


def test_every_room_is_drawn_once():
    names = [text.text for text in TREE.iter(f"{SVG}text") if text.get("class") == "title"]
    assert sorted(map(str, names)) == sorted(picture.name(room) for room in ROOMS)


def test_nothing_lies_over_anything_else():
    framed = boxes()
    for k, (left, top, right, bottom) in enumerate(framed):
        for x, y, x_end, y_end in framed[k + 1 :]:
            assert x >= right or x_end <= left or y >= bottom or y_end <= top
    lines = [path.get("d", "") for path in TREE.iter(f"{SVG}path") if path.get("class") == "line"]
    assert len(lines) > len(ROOMS)
    for line in lines:
        for x, y in points(line):
            assert not any(left < x < right and top < y < bottom for left, top, right, bottom in framed), line
