from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune import steptimes
from edgeprune.steptimes import StepTimes


def test_times_are_kept_by_work_and_step(tmp_path: Path):
    StepTimes("compile a", tmp_path / "cache").put("ranking", 40.126)
    again = StepTimes("compile a", tmp_path / "cache")
    assert again.get("ranking") == 40.13
    assert again.get("writing") is None
    assert StepTimes("compile b", tmp_path / "cache").get("ranking") is None


def test_only_the_latest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steptimes, "_MOST_KEPT", 2)
    times = StepTimes("w", tmp_path)
    for step in ("a", "b", "a", "c"):
        times.put(step, 1.0)
    assert [StepTimes("w", tmp_path).get(step) for step in "abc"] == [1.0, None, 1.0]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": "b"}'])
def test_a_damaged_file_is_no_file(text: str, tmp_path: Path):
    (tmp_path / "steps.json").write_text(text)
    times = StepTimes("w", tmp_path)
    assert times.get("a") is None
    times.put("a", 2.0)
    assert StepTimes("w", tmp_path).get("a") == 2.0


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path):
    (tmp_path / "file").touch()
    times = StepTimes("w", tmp_path / "file")
    times.put("a", 2.0)
    assert times.get("a") == 2.0
