from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.gate.gate import gate
from edgeprune.gate.github import annotation, outputs, report_to_job
from edgeprune.gate.verdicts import Check
from edgeprune.report import Repeat
from edgeprune.timing.protocol import ratio
from tests.reports import latency, measurement, report


def test_an_annotation_is_one_line_with_everything_escaped():
    line = annotation(Check("accuracy drop", "1%\n", "2, or so", "fail", "a: b"))
    assert line == "::error title=edgeprune%3A accuracy drop fail::1%25%0A, limit 2, or so: a: b\n"
    assert annotation(Check("x", "1", "2", "unreliable", "y")).startswith("::warning ")
    assert annotation(Check("x", "1", "2", "pass", "y")).startswith("::notice ")


def test_a_job_gets_annotations_summary_and_outputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    summary, out = tmp_path / "summary.md", tmp_path / "out.txt"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    monkeypatch.setenv("GITHUB_OUTPUT", str(out))
    found = gate(report(), max_latency_ms=1.0)
    report_to_job(found, report())
    assert capsys.readouterr().out.startswith("::error title=edgeprune%3A latency fail::")
    assert summary.read_text().startswith("before\n### edgeprune gate: failed\n")
    written = dict(line.split("=") for line in out.read_text().splitlines())
    assert written == dict(outputs(found, report()))
    assert written["verdict"] == "failed"
    assert float(written["latency-ms"]) == pytest.approx(2.0, rel=0.05)


def test_figures_of_several_runs_are_medians():
    runs = [(measurement(6.0 * slow), measurement(2.0 * slow)) for slow in (1.5, 1.0, 1.1)]
    first, *others = (Repeat(*pair, ratio(*pair)) for pair in runs)
    made = report(latency=latency(first.baseline, first.result, repeats=tuple(others)))
    written = outputs(gate(made, max_latency_ms=9.0), made)
    assert float(written["latency-ms"]) == pytest.approx(2.2, rel=0.02)
    assert float(written["speedup"]) == pytest.approx(3.0, rel=0.02)


def test_outside_of_a_job_there_are_only_annotations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    report_to_job(gate(report(), max_drop=1), report())
    assert capsys.readouterr().out.startswith("::notice ")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(UsageError, match=r"\$GITHUB_STEP_SUMMARY"):
        report_to_job(gate(report(), max_drop=1), report())
