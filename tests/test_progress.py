from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from edgeprune.progress import Progress, TerminalProgress, time_left
from edgeprune.steptimes import StepTimes


def test_seconds_add_up_also_after_an_error():
    progress = Progress()
    with progress.step("fit", total=2) as step:
        step.advance()
        step.fraction(1.0)
    first_s = progress.seconds["fit"]
    with pytest.raises(ValueError, match="no"), progress.step("fit"):
        raise ValueError("no")
    assert progress.seconds["fit"] > first_s
    assert list(progress.seconds) == ["fit"]


def test_a_log_gets_one_line_a_step():
    text = io.StringIO()
    progress = TerminalProgress(Console(file=text, width=200))
    with progress.step("outer", total=3) as step:
        step.advance()
        progress.note("a [note] that is no markup")
    lines = text.getvalue().splitlines()
    assert lines[0] == "a [note] that is no markup"
    assert lines[1].startswith("outer: ")
    assert len(lines) == 2


def test_a_terminal_gets_nested_bars_that_vanish():
    text = io.StringIO()
    progress = TerminalProgress(Console(file=text, width=80, force_terminal=True))
    with progress.step("outer") as outer, progress.step("inner", total=4) as inner:
        outer.fraction(0.5)
        inner.advance(3)
        inner.fraction(1.0)
    assert "outer" in text.getvalue()
    assert set(progress.seconds) == {"outer", "inner"}
    with progress.step("again"):
        pass


@pytest.mark.parametrize(
    ("by_pace_s", "elapsed_s", "expected_s", "said"),
    [
        (40.2, 10.0, None, "about 40 s left"),
        (40.2, 10.0, 999.0, "about 40 s left"),
        (None, 10.0, 200.0, "about 3 min left"),
        (None, 10.0, None, ""),
        (None, 10.0, 8.0, ""),
        (0.4, 10.0, None, ""),
    ],
)
def test_the_time_left(by_pace_s: float | None, elapsed_s: float, expected_s: float | None, said: str):
    assert time_left(by_pace_s, elapsed_s, expected_s) == said


def test_a_bar_says_what_the_same_step_took_the_last_time(tmp_path: Path):
    StepTimes("work", tmp_path).put("ranking", 50.0)
    text = io.StringIO()
    progress = TerminalProgress(Console(file=text, width=120, force_terminal=True), StepTimes("work", tmp_path))
    with progress.step("ranking"):
        progress.note("under way")
    assert "about 50 s left" in text.getvalue()
    taken_s = StepTimes("work", tmp_path).get("ranking")
    assert taken_s is not None
    assert taken_s < 50
