from pathlib import Path

import pytest

from edgeprune.errors import UsageError
from edgeprune.report.model import Budget, ModelFile, Outcome
from edgeprune.report.pareto_curve import PARETO_FILE, Curve, Point, folder_of, point_of
from tests import reports
from tests.reports import report


def curve() -> Curve:
    met = point_of(2.0, folder_of(2.0), report(budget=Budget(speedup=2.0, met=True)))
    return Curve(
        target="cpu",
        model=ModelFile("net.onnx", "00" * 32),
        device="Processor, 2 cores",
        runtime="onnxruntime 1.0",
        threads=1,
        seed=0,
        calibration="calib.npz, 128 samples",
        points=(met, Point(9.0, False, "the budget of 0.1 ms can't be met")),
    )


def test_round_trip(tmp_path: Path) -> None:
    whole = curve()
    (tmp_path / PARETO_FILE).write_text(whole.to_json())
    assert Curve.load(tmp_path) == Curve.load(tmp_path / PARETO_FILE) == whole


def test_a_point_is_what_its_report_says() -> None:
    point, (original, result) = curve().points[0], (6.0, 2.0)
    assert (point.folder, point.plan) == ("2x", "2x/plan.json")
    assert point.met
    assert point.latency_ms == pytest.approx(result, rel=0.02)
    assert point.speedup is not None
    assert point.speedup.value == pytest.approx(original / result, rel=0.02)


def test_lines_for_people() -> None:
    first, last = curve().lines()
    assert first.startswith("2x: 2.99x, ")
    assert "(compressed)" in first
    assert last == "9x: the budget of 0.1 ms can't be met"


def test_a_folder_without_a_curve_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"pareto\.json"):
        Curve.load(tmp_path)


def test_a_point_that_is_not_worth_deploying_says_so() -> None:
    outcome = Outcome("compressed", False, "It is 1.01x as fast.", 1.01, "int8", ("boxes are elsewhere",))
    point = point_of(2.0, folder_of(2.0), report(outcome=outcome))
    assert (point.pays, point.below_floor) == (False, ("boxes are elsewhere",))
    (line,) = reports.curve(point).lines()
    assert line.endswith("(compressed, does not pay, below the floor of usefulness)")
