"""``edgeprune compile --pareto`` through the real command line."""

import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from edgeprune.build.plan import Plan
from edgeprune.cli.commands import cli
from edgeprune.errors import BudgetError, UsageError
from edgeprune.report.model import Report
from edgeprune.report.pareto_curve import Curve
from tests.compiler.test_compile import cache, files

__all__ = ["cache", "files"]


@pytest.fixture(scope="module")
def curve(files: Path, cache: None) -> Path:
    out = files / "curve"
    small = onnx.load(files / "net.onnx")
    for weight in small.graph.initializer:  # other weights, so that it scores worse, and takes as long
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight)[::-1], weight.name))
    onnx.save(small, files / "rival.onnx")
    data = ["--calib", str(files / "calib.npz"), "--eval", str(files / "eval.npz")]
    flags = [*data, "--rival", str(files / "rival.onnx"), "-o", str(out)]
    result = CliRunner().invoke(
        cli, ["compile", str(files / "net.onnx"), "--target", "cpu", "--pareto", "1.2,1000,1.5", *flags]
    )
    assert result.exception is None, result.output
    assert "1000x: the budget" in result.output
    assert "rival.onnx as it is" in result.output
    return out


def test_one_folder_for_each_point_and_the_curve(curve: Path) -> None:
    found = Curve.load(curve)
    assert [p.asked for p in found.points] == [1.2, 1.5, 1000]
    for point in found.points[:2]:
        assert point.met
        assert point.folder is not None
        report = Report.load(curve / point.folder)
        assert report.latency is not None
        assert point.speedup == report.latency.speedup
        assert point.speedup.value >= point.asked
        assert point.accuracy == report.accuracy
        assert Plan.load(curve / str(point.plan)).model_sha256 == found.model.sha256
    assert {f.name for f in curve.iterdir()} == {"pareto.json", "recipe.toml", "report.html", "1.2x", "1.5x"}


def test_the_rival_is_measured_once_for_the_whole_curve(curve: Path) -> None:
    found = Curve.load(curve)
    assert found.rival is not None
    assert found.rival.measured
    assert found.rival.accuracy is not None
    assert found.rival.accuracy.kind == "evaluation"
    assert Report.load(curve / "1.5x").rival == found.rival
    assert "rival.onnx" in (curve / "report.html").read_text(encoding="utf-8")


def test_a_point_that_cannot_be_met_says_why(curve: Path) -> None:
    last = Curve.load(curve).points[-1]
    assert not last.met
    assert last.folder is None
    assert "x as fast as the original" in last.reason
    assert not (curve / "1000x").exists()


def test_statistics_are_computed_once(curve: Path, monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    from edgeprune.importance import rankings
    from edgeprune.search import pricing

    monkeypatch.setattr(rankings, "rank", lambda *_: pytest.fail("units were ranked again"))
    monkeypatch.setattr(pricing, "Probe", lambda *_: pytest.fail("widths and formats were priced again"))
    flags = ["--calib", str(files / "calib.npz"), "--pareto", "1000", "-o", str(files / "never")]
    result = CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), "--target", "cpu", *flags])
    assert isinstance(result.exception, BudgetError)
    assert not (files / "never").exists()


def test_each_point_can_be_reproduced(curve: Path) -> None:
    report = json.loads((curve / "1.5x" / "report.json").read_text())
    assert report["recipe"]["speedup"] == 1.5
    assert "pareto" not in report["recipe"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--pareto", "2,fast"], "takes speed-ups"),
        (["--pareto", "2,0"], "takes speed-ups"),
        (["--pareto", "2", "--speedup", "3"], "leave out --latency-ms, --speedup and --max-drop"),
        (["--pareto", "2", "--precision", "int8", "--calib", "random"], "leave out --precision int8"),
    ],
)
def test_contradicting_flags_are_refused(files: Path, flags: list[str], reason: str) -> None:
    result = CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), "--target", "cpu", *flags])
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)
