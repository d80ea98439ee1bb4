"""Widths that `prune` chooses for a size: within both limits, and by what each changes at the outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.build import AxisPlan, Plan
from edgeprune.compiler import prune_model
from edgeprune.errors import BudgetError, CalibrationError, UsageError
from edgeprune.graph import save
from edgeprune.latency import SizeLimit
from tests.small_models import SMALL_CLASSIFIER, build, normal


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network whose second convolution has few channels that matter, and its data."""
    folder = tmp_path_factory.mktemp("net")
    wide = normal(64, 32, 3, 3)
    wide[:48] *= 1e-3
    weights = {"w0": normal(32, 3, 3, 3), "w1": wide, "w2": normal(64, 32), "w3": normal(32, 5)}
    weights |= {"b0": normal(32), "b1": np.zeros(64), "b2": normal(32), "b3": normal(5)}
    save(build(SMALL_CLASSIFIER, **weights), folder / "net.onnx")
    images = np.random.default_rng(0).standard_normal((32, 3, 16, 16)).astype(np.float32)
    np.savez(folder / "images.npz", x=images)
    return folder / "net.onnx", folder / "images.npz"


def _plan(folder: Path) -> tuple[AxisPlan, ...]:
    return Plan.load(folder).groups


@pytest.mark.parametrize(("macs", "parameters"), [(0.5, None), (None, 0.4), (0.6, 0.45)])
def test_the_result_is_within_the_size(
    macs: float | None, parameters: float | None, net: tuple[Path, Path], tmp_path: Path
) -> None:
    size = SizeLimit(macs, parameters)
    report = prune_model(net[0], size=size, calibration=str(net[1]), compensate=False, out=tmp_path / "out")
    before, after = report.sizes.baseline, report.sizes.result
    assert after.macs <= (macs or 1) * before.macs
    assert after.parameters <= (parameters or 1) * before.parameters
    reached = max(after.macs / before.macs / (macs or 9), after.parameters / before.parameters / (parameters or 9))
    assert reached > 0.6  # little more is removed than is asked for: units that are nearly 0 cost nothing
    assert report.accuracy is not None


def test_units_that_change_little_go_first(net: tuple[Path, Path], tmp_path: Path) -> None:
    by_size = prune_model(net[0], size=SizeLimit(macs=0.5), calibration=str(net[1]), out=tmp_path / "size")
    share = by_size.sizes.result.macs / by_size.sizes.baseline.macs
    uniform = prune_model(net[0], 0.3, calibration=str(net[1]), out=tmp_path / "uniform")
    assert share <= 0.5 < uniform.sizes.result.macs / uniform.sizes.baseline.macs + 0.02
    kept = {g.id: len(g.kept) for g in _plan(tmp_path / "size")}
    assert kept["w1:0"] < 40  # three quarters of them are nearly 0
    assert kept.get("w0:0", 32) >= 24


def test_no_group_is_cut_below_the_smallest_share(net: tuple[Path, Path], tmp_path: Path) -> None:
    size = SizeLimit(macs=0.6, smallest=0.75)
    prune_model(net[0], size=size, calibration=str(net[1]), compensate=False, out=tmp_path / "out")
    assert all(len(g.kept) >= 0.75 * g.size for g in _plan(tmp_path / "out"))
    with pytest.raises(BudgetError, match=r"--macs 0\.1 cannot be reached: the smallest widths have 0\.[56]\d+ of the"):
        prune_model(net[0], size=SizeLimit(macs=0.1, smallest=0.75), calibration=str(net[1]), out=tmp_path / "no")


def test_a_network_within_the_size_stays(net: tuple[Path, Path], tmp_path: Path) -> None:
    report = prune_model(net[0], size=SizeLimit(macs=1.0), calibration=str(net[1]), out=tmp_path / "out")
    assert report.outcome.variant == "original"
    assert "the original is within the size" in report.outcome.reason


def test_contradicting_flags_are_refused(net: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="give --ratio, or the size of the result: --macs, --parameters or both"):
        prune_model(net[0], out=out, compensate=False)
    with pytest.raises(UsageError, match="give --ratio, or the size"):
        prune_model(net[0], 0.5, size=SizeLimit(macs=0.5), calibration=str(net[1]), out=out)
    with pytest.raises(CalibrationError, match="give --calib with --macs"):
        prune_model(net[0], size=SizeLimit(macs=0.5), compensate=False, out=out)
    with pytest.raises(UsageError, match="--criterion l2 ranks for --ratio"):
        prune_model(net[0], size=SizeLimit(macs=0.5), criterion="l2", calibration=str(net[1]), out=out)
    with pytest.raises(UsageError, match=r"--macs 1\.5: expected a share of the original"):
        prune_model(net[0], size=SizeLimit(macs=1.5), calibration=str(net[1]), out=out)
    assert not out.exists()
