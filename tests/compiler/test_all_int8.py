"""``--all-int8``: every layer that has a form in INT8 gets it, where it is slower, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune import graph
from edgeprune.build import Plan
from edgeprune.errors import UsageError
from edgeprune.report import Report
from tests.quick_timing import time_quickly
from tests.small_models import build, normal

NET = """net (float[n, 16, 64] x) => (float[n, 16, 64] y) {
  a = LayerNormalization <axis = -1> (x, g)
  b = MatMul (a, w)
  c = Erf (b)
  d = MatMul (c, v)
  y = Add (x, d)
}"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all-int8")
    graph.save(build(NET, g=np.ones(64), w=normal(64, 128), v=normal(128, 64)), folder / "net.onnx")
    np.savez(folder / "calib.npz", x=np.random.default_rng(0).standard_normal((32, 16, 64)).astype(np.float32))
    return folder


def compiled(files: Path, out: Path, target: str, *, all_int8: bool) -> Report:
    return edgeprune.compile(files / "net.onnx", target, precision="int8", all_int8=all_int8, tokens="none",
                             calibration=str(files / "calib.npz"), out=out, accept_loss=True)  # fmt: skip


def int8_layers(folder: Path) -> set[str]:
    return {layer.node for layer in Plan.load(folder).layers if layer.precision == "int8"}


def test_a_transformer_that_is_slower_in_int8_gets_it_on_request(files: Path, tmp_path: Path) -> None:
    plain = compiled(files, tmp_path / "plain", "orin", all_int8=False)
    every = compiled(files, tmp_path / "every", "orin", all_int8=True)
    assert not int8_layers(tmp_path / "plain")
    assert len(int8_layers(tmp_path / "every")) == 2
    assert any("predicted to need" in warning for warning in plain.warnings)
    assert not any("predicted to need" in warning or "would cost accuracy" in warning for warning in every.warnings)
    assert every.outcome.variant == "unpruned-int8"
    assert plain.predicted is not None
    assert every.predicted is not None
    assert every.predicted.result_ms > plain.predicted.result_ms


def test_so_does_one_for_the_cpu(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    time_quickly(monkeypatch)
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    report = compiled(files, tmp_path / "out", "cpu", all_int8=True)
    assert report.outcome.variant == "unpruned-int8"
    assert int8_layers(tmp_path / "out") >= {"node_1", "node_3"}


@pytest.mark.parametrize("given", [{}, {"precision": "fp32"}, {"precision": "int8", "speedup": 2.0}])
def test_it_goes_with_int8_and_no_budget(given: dict[str, object], files: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--all-int8 goes with --precision int8 and without a budget"):
        edgeprune.compile(files / "net.onnx", "cpu", all_int8=True, calibration="random", out=tmp_path / "out",
                          **given)  # type: ignore[arg-type]  # fmt: skip
