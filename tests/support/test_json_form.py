from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
import pytest

from edgeprune.errors import UsageError
from edgeprune.support import json_form as jsonform


@dataclass(frozen=True)
class Inner:
    size: int
    share: float | None = None


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    parts: tuple[Inner, ...]
    names: Mapping[str, float]
    sure: bool = True
    schema: int = 1


WHOLE = Outer("a", (Inner(1), Inner(2, 0.5)), {"x": 1.0})


def read(text: str) -> Outer:
    return jsonform.loads(Outer, text, source="it.json", schema=1)


def test_round_trip():
    assert read(jsonform.dumps(WHOLE)) == WHOLE


def test_numpy_scalars_are_written_as_numbers():
    numpy_inside = Outer("a", (Inner(np.int64(1)), Inner(2, np.float64(0.5))), {"x": 1.0}, np.True_)  # type: ignore[arg-type]
    assert read(jsonform.dumps(numpy_inside)) == WHOLE


def test_what_json_lacks_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        jsonform.dumps(Inner(1, float("inf")))
    with pytest.raises(TypeError, match="no JSON form"):
        jsonform.dumps(Inner(Path("a")))  # type: ignore[arg-type]


def test_other_keys_are_skipped_and_whole_numbers_are_numbers():
    text = '{"schema": 1, "kind": "b", "parts": [{"size": 3, "new": 1}], "names": {"x": 2}}'
    assert read(text) == Outer("b", (Inner(3),), {"x": 2.0})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "it.json is not JSON"),
        ("[]", "the whole is not a JSON object"),
        ("{}", "states schema null; this version of edgeprune reads schema 1"),
        ('{"schema": 2}', "states schema 2"),
        ('{"schema": 1}', "kind is missing"),
        ('{"schema": 1, "kind": "c"}', 'kind is "c", not one of a, b'),
        ('{"schema": 1, "kind": "a", "parts": 1}', "parts is 1, not a list"),
        ('{"schema": 1, "kind": "a", "parts": [{}]}', r"parts\[0\].size is missing"),
        ('{"schema": 1, "kind": "a", "parts": [{"size": true}]}', r"parts\[0\].size is true, not a whole number"),
        ('{"schema": 1, "kind": "a", "parts": [{"size": 1, "share": "x"}]}', r'share is "x", not a number'),
        ('{"schema": 1, "kind": "a", "parts": [{"size": 1, "share": NaN}]}', "share is NaN, not a number"),
        ('{"schema": 1, "kind": "a", "parts": [], "names": {"x": null}}', "names.x is null, not a number"),
        ('{"schema": 1, "kind": "a", "parts": [], "names": []}', "names is .., not an object"),
    ],
)
def test_errors_name_the_place(text: str, message: str):
    with pytest.raises(UsageError, match=message):
        read(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read .*none.json"):
        jsonform.load(Outer, tmp_path / "none.json", schema=1)
    (tmp_path / "image").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(UsageError, match="not UTF-8"):
        jsonform.load(Outer, tmp_path / "image", schema=1)


def test_other_mappings_are_objects():
    assert '"x": 1.0' in jsonform.dumps(Outer("a", (), dict(MappingProxyType({"x": 1.0}))))
