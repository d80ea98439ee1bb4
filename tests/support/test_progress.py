from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from edgeprune.support.progress import Progress, TerminalProgress, time_left
from edgeprune.support.step_times import USUAL_S, StepTimes, usual_s

ROOT = Path(__file__).resolve().parents[2]


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
    ("by_pace_s", "elapsed_s", "expected_s", "usual_s", "said"),
    [
        (40.2, 10.0, None, None, "about 40 s left"),
        (40.2, 10.0, 999.0, 999.0, "about 40 s left"),
        (None, 10.0, 200.0, 999.0, "about 3 min left"),
        (None, 10.0, None, None, ""),
        (None, 10.0, 9.5, None, ""),
        (None, 10.0, 8.0, 999.0, "longer than the last time"),
        (None, 10.0, None, 50.0, "perhaps 40 s left"),
        (None, 10.0, None, 8.0, "longer than usual"),
        (0.4, 10.0, None, None, ""),
    ],
)
def test_the_time_left(
    by_pace_s: float | None, elapsed_s: float, expected_s: float | None, usual_s: float | None, said: str
):
    assert time_left(by_pace_s, elapsed_s, expected_s, usual_s) == said


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


def test_a_bar_says_what_a_step_usually_takes(tmp_path: Path):
    text = io.StringIO()
    progress = TerminalProgress(Console(file=text, width=120, force_terminal=True), StepTimes("work", tmp_path))
    with progress.step("ranking units"):
        progress.note("under way")
    assert f"perhaps {USUAL_S['ranking units']:.0f} s left" in text.getvalue()


def steps() -> Iterator[tuple[str, bool]]:
    """All steps in the code: the words they begin with, and whether they tell their own pace."""
    for file in (f for folder in ("edgeprune", "passes") for f in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for item in node.items if isinstance(node, ast.With) else ():
                call = item.context_expr
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "step":
                    (name,) = call.args[:1]
                    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
                    assert isinstance(parts[0], ast.Constant), ast.unparse(call)
                    yield str(parts[0].value), item.optional_vars is not None


def test_every_step_knows_its_pace_or_what_it_usually_takes():
    found = list(steps())
    assert len(found) > 30
    assert sorted({name for name, paced in found if not paced and usual_s(f"{name.strip()} x".strip()) is None}) == []
    assert {name for name in USUAL_S if not any(name.startswith(said.strip()) for said, _ in found)} == set()
