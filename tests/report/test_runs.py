from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.report.comparison import comparison_html, comparison_markdown, lead
from edgeprune.report.model import Accuracy, ModelFile, Prediction, Report
from edgeprune.report.pareto_curve import Point, point_of
from edgeprune.report.runs import Run, comparable, differences, line, open_runs, points, siblings
from tests.report.pages import Page, figures
from tests.reports import curve, latency, measurement, report


def write(folder: Path, whole: Report, kept: int = 3) -> Path:
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(whole.to_json(), encoding="utf-8")
    group = {"id": "g1", "unit": "channel", "size": 4, "kept": list(range(kept)), "tensors": ["w"]}
    (folder / "plan.json").write_text(json.dumps({"groups": [group]}), encoding="utf-8")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    fast = report(
        latency=latency(measurement(6.0), measurement(1.0)),
        accuracy=Accuracy("evaluation", "top-1 accuracy", "%", 93.1, 90.0, 3.1, 1000),
    )
    return [write(tmp_path / "a" / "slow", report()), write(tmp_path / "b" / "fast", fast, kept=1)]


def test_runs_are_called_by_what_tells_them_apart(folders: list[Path], tmp_path: Path):
    assert [run.name for run in open_runs(folders)[0]] == ["slow", "fast"]
    other = write(tmp_path / "c" / "slow", report())
    assert [run.name for run in open_runs([folders[0], other])[0]] == ["a/slow", "c/slow"]
    assert len({run.name for run in open_runs([folders[0], folders[0]])[0]}) == 2


def test_a_curve_stands_for_its_points(folders: list[Path], tmp_path: Path):
    whole = report()
    drawn = curve(point_of(2.0, "a/slow", whole), Point(9.0, False, "no candidate is so fast"))
    (tmp_path / "pareto.json").write_text(drawn.to_json(), encoding="utf-8")
    runs, missed = open_runs([tmp_path])
    assert [run.name for run in runs] == ["slow"]
    assert [(m.name, m.reason) for m in missed] == [("9x", "no candidate is so fast")]
    text = comparison_html(runs, missed)
    assert any("no candidate is so fast" in said for said in Page(text).text)


def test_a_point_knows_the_others_of_its_curve(folders: list[Path], tmp_path: Path):
    whole = report()
    home = write(tmp_path / "curve" / "2x", whole)
    assert siblings(home) == []
    drawn = curve(point_of(2.0, "2x", whole), point_of(3.0, "3x", whole), Point(9.0, False, "no candidate is so fast"))
    (tmp_path / "curve" / "pareto.json").write_text(drawn.to_json(), encoding="utf-8")
    assert [(p.name, p.score, p.strong) for p in siblings(home)] == [("3x", 92.6, False)]
    assert siblings(write(tmp_path / "curve" / "elsewhere", whole)) == []


def test_the_page_compares(folders: list[Path]):
    runs, missed = open_runs(folders)
    text = comparison_html(runs, missed)
    found = Page(text)
    assert found.outside == []
    assert set(found.charts()) == set(figures(text)) == {"chart-latency", "chart-tradeoff"}
    for part in ("slow", "fast", "90.00% (-3.10 points)", "what every run keeps of 1 group"):
        assert any(part in said for said in found.text), part
    (markers,) = (t for t in figures(text)["chart-tradeoff"]["data"] if t["name"] == "measured")
    assert markers["text"] == ["original", "slow", "fast"]


def test_one_sentence_and_markdown(folders: list[Path]):
    runs, _ = open_runs(folders)
    assert lead(runs, ()).startswith("2 runs; the fastest is fast with 1 ms; no other beats fast or slow or original")
    rows = [row for row in comparison_markdown(runs).splitlines() if row.startswith("|")]
    assert len(rows) == 4
    assert "| slow | cpu | compressed |" in rows[2]


def test_what_must_not_be_compared_is_said(folders: list[Path]):
    (first, second), _ = open_runs(folders)
    assert differences([first, second]) == [
        "The latencies come from separate runs; only latencies of one run were measured in turns."
    ]
    guessed = report(
        target="orin",
        latency=None,
        predicted=Prediction(6.0, 2.0, "analytic", 0.2),
        model=ModelFile("other.onnx", "11" * 32),
    )
    said = " ".join(differences([first, Run("third", guessed, {})]))
    assert "different models: net.onnx, other.onnx" in said
    assert "different targets: cpu, orin" in said
    assert "Some latencies are measured and others predicted." in said
    assert "2 ms predicted, error 20%" in line(Run("third", guessed, {}))
    assert len([p for p in points([first, Run("third", guessed, {})]) if p.name == "original"]) == 2


def test_only_comparable_runs_are_compared(folders: list[Path]):
    (first, second), _ = open_runs(folders)
    guessed = report(target="orin", latency=None, predicted=Prediction(6.0, 2.0, "analytic", 0.2))
    third = Run("third", guessed, {})
    assert [[run.name for run in same] for same in comparable([third, first, second])] == [["slow", "fast"], ["third"]]
    assert lead([third, first, second], ()) == (
        "3 runs; of the 2 that can be compared, no other beats fast or slow or original in both speed and accuracy."
    )
    assert lead([third, first], ()) == "2 runs."
    text = comparison_html([third, first, second])
    assert "third" not in str(figures(text)["chart-tradeoff"])
    assert "third" in str(figures(text)["chart-tradeoff-1"]), "runs of another target have a chart of their own"


def test_a_run_that_measured_nothing_says_so():
    nothing = Run("p", report(latency=None, predicted=None, accuracy=None), {})
    assert line(nothing)[3:6] == ("not measured", "not measured", "not measured")
    assert "chart" not in " ".join(Page(comparison_html([nothing, nothing])).charts())


def test_a_folder_without_a_report_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot read .*report\.json"):
        open_runs([tmp_path])
