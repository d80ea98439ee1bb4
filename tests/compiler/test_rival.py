"""``compile --rival``: predicted for a device that is not attached. On a CPU it is measured: see test_pareto."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from edgeprune.backends import tensorrt_rtx
from edgeprune.cli.commands import cli
from edgeprune.compiler.token_sessions import Sessions
from edgeprune.errors import ModelError
from edgeprune.report.model import Report
from tests import residual


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Compiles a network with labels that it meets; ``small.onnx`` is narrower, and another one has other outputs."""
    monkeypatch.setattr(tensorrt_rtx, "is_installed", lambda: False)
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    residual.save(tmp_path / "net.onnx", np.random.default_rng(0))
    residual.save(tmp_path / "small.onnx", np.random.default_rng(1), widths={48: 16, 96: 32})
    other = onnx.load(tmp_path / "small.onnx")
    other.graph.output.append(onnx.helper.make_tensor_value_info("f", onnx.TensorProto.FLOAT, ["n", 16]))
    onnx.save(other, tmp_path / "other.onnx")
    x = np.random.default_rng(3).standard_normal((8, 3, 48, 48)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", x=x)

    def run(*flags: str) -> Result:
        data = ["--calib", str(tmp_path / "calib.npz"), "-o", str(tmp_path / "out"), "--force"]
        arguments = [str(tmp_path / "net.onnx"), "--target", "orin", "--precision", "fp16", *data, *flags]
        return CliRunner().invoke(cli, ["compile", *arguments])

    return run


def test_the_rival_is_predicted_and_scored_beside_the_result(compiled: Callable[..., Result], tmp_path: Path) -> None:
    found = compiled("--rival", str(tmp_path / "small.onnx"))
    assert found.exception is None, found.output
    report = Report.load(tmp_path / "out")
    rival = report.rival
    assert rival is not None
    assert report.predicted is not None
    assert (rival.file, rival.variant, rival.measured) == ("small.onnx", "fp16", False)
    assert rival.latency_ms < report.predicted.result_ms
    assert rival.accuracy is not None
    assert report.accuracy is not None
    assert rival.accuracy.after < report.accuracy.after  # other weights: it agrees in less
    assert report.warnings[0].startswith("neither the rival small.onnx as it is (fp16) nor the result beats the other")
    assert report.recipe is not None
    assert report.recipe["rival"] == str(tmp_path / "small.onnx")


def test_a_rival_with_other_outputs_is_timed_and_not_scored(compiled: Callable[..., Result], tmp_path: Path) -> None:
    found = compiled("--rival", str(tmp_path / "other.onnx"))
    assert found.exception is None, found.output
    rival = Report.load(tmp_path / "out").rival
    assert rival is not None
    assert rival.accuracy is None
    assert rival.not_scored == "it has 2 outputs, the original 1"


def test_a_rival_that_does_not_exist_is_refused_before_the_search(
    compiled: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sessions, "reach", lambda *_: pytest.fail("the search began"))
    found = compiled("--rival", str(tmp_path / "none.onnx"))
    assert isinstance(found.exception, ModelError)
    assert "none.onnx" in str(found.exception)


@pytest.mark.parametrize("shape", ["x=1x3x48x48", "x=2x3x48x48"])
def test_a_rival_of_fixed_sizes_takes_the_shapes_that_fit_it(
    compiled: Callable[..., Result], tmp_path: Path, shape: str
) -> None:
    """--shape is of the large model: for a rival whose batch is fixed, another batch was an error."""
    fixed = onnx.load(tmp_path / "small.onnx")
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(fixed, tmp_path / "fixed.onnx")
    found = compiled("--rival", str(tmp_path / "fixed.onnx"), "--shape", shape)
    assert found.exception is None, found.output
    assert Report.load(tmp_path / "out").rival is not None
