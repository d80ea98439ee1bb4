from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.support import step_times as steptimes
from edgeprune.support.step_times import StepTimes


def test_times_are_kept_by_work_and_step(tmp_path: Path):
    StepTimes("compile a", tmp_path / "cache").put("ranking", 40.126)
    again = StepTimes("compile a", tmp_path / "cache")
    assert again.get("ranking") == 40.13
    assert again.get("writing") is None
    assert StepTimes("compile b", tmp_path / "cache").get("ranking") is None


def test_other_work_of_the_kind_tells_what_is_usual(tmp_path: Path):
    assert StepTimes("a", tmp_path, kind="compile cpu").usual("ranking units") == steptimes.USUAL_S["ranking units"]
    StepTimes("a", tmp_path, kind="compile cpu").put("ranking units", 7.0)
    assert StepTimes("b", tmp_path, kind="compile cpu").usual("ranking units") == 7.0
    assert StepTimes("b", tmp_path, kind="compile orin").usual("ranking units") == steptimes.USUAL_S["ranking units"]
    assert StepTimes("b", tmp_path).usual("something else") is None


@pytest.mark.parametrize(
    ("step", "like"),
    [
        ("ranking by l2", "ranking by"),
        ("ranking by obs", "ranking by obs"),
        ("reading the model", "reading the model"),
        ("measuring network 2 of 9", "measuring network"),
    ],
)
def test_a_step_may_go_on_after_its_words(step: str, like: str):
    assert steptimes.usual_s(step) == steptimes.USUAL_S[like]


def test_only_the_latest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(steptimes, "_MOST_KEPT", 4)
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
