from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeprune.progress import Progress, TerminalProgress


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
