"""``compile --max-energy-mj``, ``--max-memory-mb`` and ``--p99``: what is cut for them, and what a refusal says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.compiler import compile_model
from edgeprune.errors import BudgetError, UsageError
from edgeprune.report import Report
from tests import residual


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("limits")
    rng = np.random.default_rng(0)
    residual.save(folder / "net.onnx", rng, widths={48: 64, 96: 128})
    np.savez(folder / "calib.npz", x=rng.standard_normal((8, 3, 48, 48)).astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def fast(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TensorRtBuilder, "recover", lambda *args: False)
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(files / "cache"))


def compiled(files: Path, out: Path, **limits: float) -> Report:
    given = {"calibration": files / "calib.npz", "out": out, "accept_loss": True}
    return compile_model(files / "net.onnx", "orin-nano-8", **given, **limits)  # type: ignore[arg-type]


def test_a_limit_on_memory_cuts_until_the_result_is_small_enough(files: Path, tmp_path: Path) -> None:
    loose = compiled(files, tmp_path / "loose", max_memory_mb=5.0)
    assert loose.budget.met
    assert loose.outcome.variant.startswith("unpruned")
    assert "pricing widths" not in loose.seconds  # nothing has to be cut, so no width needs a price
    found = compiled(files, tmp_path / "small", max_memory_mb=0.4)
    size = found.sizes.result
    assert size.activation_bytes is not None
    assert size.file_bytes + size.activation_bytes < 0.41e6
    assert found.outcome.variant == "compressed"
    assert (found.budget.max_memory_mb, found.budget.met) == (0.4, True)


def test_energy_is_predicted_and_a_refusal_names_what_can_be_reached(files: Path, tmp_path: Path) -> None:
    found = compiled(files, tmp_path / "out", max_energy_mj=0.1)
    assert found.predicted is not None
    assert found.predicted.energy_mj is not None
    assert 0.05 < found.predicted.energy_mj <= 0.1
    assert found.predicted.energy_error == 0.5
    with pytest.raises(
        BudgetError, match=r"--max-energy-mj 0\.0001 can't be met: the least that was reached is 0\.0\d+ mJ"
    ):
        compiled(files, tmp_path / "never", max_energy_mj=0.0001)
    with pytest.raises(UsageError, match="no power of it was published"):
        compile_model(files / "net.onnx", "t4", calibration=files / "calib.npz", max_energy_mj=1.0)


def test_without_a_device_the_median_is_held_to_a_99th_percentile(files: Path, tmp_path: Path) -> None:
    found = compiled(files, tmp_path / "out", p99_ms=0.08)
    assert found.predicted is not None
    assert found.predicted.result_ms <= 0.08
    assert (found.budget.p99_ms, found.budget.met) == (0.08, None)
