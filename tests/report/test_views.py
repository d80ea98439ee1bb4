from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from edgeprune.errors import UsageError
from edgeprune.gate.gate import gate
from edgeprune.gate.github import report_to_job
from edgeprune.report import figures
from edgeprune.report.html import to_html
from edgeprune.report.markdown import to_markdown
from edgeprune.report.model import Accuracy, Outcome, Prediction, Search
from edgeprune.report.output_files import read_plan
from edgeprune.report.runs import Run, line
from edgeprune.report.terminal import print_measurements, print_report
from edgeprune.support import plural
from edgeprune.timing.protocol import ratio
from tests.gate.test_engine import engine
from tests.reports import latency, measurement, report


def test_markdown():
    lines = to_markdown(report(outcome=Outcome("compressed", True, "Because."))).splitlines()
    assert lines[0].startswith("## edgeprune: net.onnx compiled for cpu, 2.99x as fast as the original, measured")
    assert lines[2].startswith("Asked for the fastest form of net.onnx on cpu")
    assert lines[4] == "Because."
    assert any("no rule for com.acme::Swoosh | 2 | act_3" in line for line in lines)
    assert "- the machine was busy" in lines


def test_terminal_summary():
    text = io.StringIO()
    print_report(Console(file=text, width=140), report())
    assert "Pruned and quantized." in text.getvalue()
    assert "note: the machine was busy" in text.getvalue()
    assert "-0.50 points on 1000 samples" in text.getvalue()


def test_terminal_measurements():
    text = io.StringIO()
    a, b = measurement(4.0), measurement(2.0)
    print_measurements(Console(file=text, width=140), {"a.onnx": a, "b.onnx": b}, ratio(a, b))
    assert "b.onnx is 2.000x as fast as a.onnx" in text.getvalue()


def test_a_prediction_is_called_one():
    only_predicted = report(latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2))
    assert "3.00x as fast as the original, predicted, not measured" in figures.headline(only_predicted)
    (row,) = (row for row in figures.comparison(only_predicted) if row.what == "latency, predicted")
    assert row.change == "from an analytic profile, typical error 20%"


def test_how_the_choice_was_found():
    facts = dict(figures.conditions(report(search=Search(12, 64, 0.02, 0.01, 0.05))))
    assert facts["search"] == (
        "12 candidates tried on 64 samples, error 0.02 to 0.01; the first one within 5.0% of the least predicted loss "
        "near it"
    )
    assert "search" not in dict(figures.conditions(report(search=None)))


def test_nothing_lost_has_no_sign():
    assert figures.change_of(Accuracy("evaluation", "a", "%", 90.0, 90.001, -0.001)) == "0.00 points"
    assert figures.change_of(Accuracy("evaluation", "a", "%", 90.0, 89.5, 0.5)) == "-0.50 points"
    assert (
        figures.change_of(Accuracy("fidelity", "SQNR against the original", "dB", None, 24.4, 0.364)) == "0.36% noise"
    )


def test_fidelity_is_not_called_accuracy():
    stand_in = report(accuracy=Accuracy("fidelity", "signal to noise", "dB", None, 31.5, 0.2))
    (row,) = (row for row in figures.comparison(stand_in) if "fidelity" in row.what)
    assert (row.before, row.after) == ("", "31.50 dB")


def test_variants_are_shown():
    measured = latency(measurement(6.0), measurement(2.0), variants={"int8": measurement(3.0)})
    assert "int8" in to_markdown(report(latency=measured))


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1500, "1.5 k"), (2_000_000, "2 M"), (3_210_000_000, "3.21 G")]
)
def test_counts(number: int, text: str):
    assert figures.count(number) == text


def test_sizes_and_durations():
    assert figures.file_size(512) == "512 bytes"
    assert figures.file_size(12_345_678) == "12.3 MB"
    assert figures.seconds(3.14) == "3.1 s"
    assert figures.seconds(125.4) == "2 min 5 s"
    assert plural(1, "thread") == "1 thread"


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[]", "is not a JSON object")])
def test_a_plan_that_is_none_is_refused(tmp_path: Path, text: str, message: str):
    assert read_plan(tmp_path) == {}
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_plan(tmp_path)


def test_every_view_calls_a_doubtful_result_so(capsys: pytest.CaptureFixture[str]):
    """By the outcome's fields, not by the text of a warning."""
    outcome = Outcome("compressed", False, "It is 1.01x as fast.", 1.01, "int8", ("boxes are elsewhere",))
    doubtful = report(outcome=outcome, warnings=())
    said = "does not pay, below the floor of usefulness"
    checked = gate(doubtful, max_drop=5)
    report_to_job(checked, doubtful)
    job = capsys.readouterr().out
    for view in (figures.headline(doubtful), to_markdown(doubtful), to_html(doubtful, {}, None)):
        assert said in view
    assert f"compressed ({said})" in line(Run("a", doubtful, {}))
    for view in (checked.to_markdown(), job, str(checked.to_json())):
        assert "does not pay: It is 1.01x as fast." in view
        assert "below the floor of usefulness: boxes are elsewhere" in view
    assert checked.passed
    assert gate(report(), max_drop=5).notes == ()
    unpruned = report(outcome=Outcome("unpruned-int8", False, "Because.", 1.0, "int8"))
    assert "does not pay" not in figures.headline(unpruned)


def test_an_engine_that_was_run_is_in_every_view() -> None:
    checked = report(engine=engine(1.25))
    for text in (to_markdown(checked), to_html(checked, {})):
        assert "the same, of the engine on the device" in text
        assert "run on 8 samples by trtexec: its outputs are what the graph says" in text
    assert "computes something else than its graph" in to_markdown(report(engine=engine(None, "it is wrong")))
