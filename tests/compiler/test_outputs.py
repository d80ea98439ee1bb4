"""A network with a map beside a vector of two scores, of which one is always far above the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.report import Report

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,16,16] images) => (float[n,4,8,8] map, float[n,2] present) {
  a = Conv<pads=[1,1,1,1], strides=[2,2]>(images, w0)
  b = Relu(a)
  c = Conv<pads=[1,1,1,1]>(b, w1)
  d = Relu(c)
  e = Conv<pads=[1,1,1,1]>(d, wm)
  f = Relu(e)
  map = Conv(f, wo)
  p = GlobalAveragePool(d)
  q = Flatten(p)
  present = Gemm<transB=1>(q, fc, fb)
}"""
SHAPES = {"w0": (24, 3, 3, 3), "w1": (32, 24, 3, 3), "wm": (24, 32, 3, 3), "wo": (4, 24, 1, 1), "fc": (2, 32)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracker")
    rng = np.random.default_rng(0)
    model = onnx.parser.parse_model(TEXT)
    for name, shape in SHAPES.items():
        values = 1.4 * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    model.graph.initializer.append(numpy_helper.from_array(np.float32([4, -4]), "fb"))
    onnx.save(model, folder / "net.onnx")
    np.savez(folder / "calib.npz", images=rng.standard_normal((48, 3, 16, 16)).astype(np.float32))
    return folder


def run(files: Path, *flags: str) -> int:
    calib = str(files / "calib.npz")
    arguments = ["prune", str(files / "net.onnx"), "--ratio", "0.6", "--calib", calib, "-q", "--force", *flags]
    with pytest.raises(SystemExit) as left:
        cli_support.run_and_exit(cli, [*arguments, "-o", str(files / "out")])
    return int(left.value.code or 0)


def test_the_map_is_the_fidelity(files: Path) -> None:
    assert run(files) == 0
    accuracy = Report.load(files / "out").accuracy
    assert accuracy is not None
    scores = {score.title: score for score in accuracy.outputs}
    assert scores.keys() == {"map", "present"}
    assert scores["map"].kind == "map"
    assert accuracy.unit == "dB"
    assert accuracy.drop == scores["map"].drop > 5 * scores["present"].drop
    assert "SQNR" in (files / "out" / "report.html").read_text()


def test_the_user_may_name_outputs_and_metrics(files: Path) -> None:
    assert run(files, "--outputs", "present=2", "--fidelity", "map=cosine") == 0
    accuracy = Report.load(files / "out").accuracy
    assert accuracy is not None
    scores = {score.title: score for score in accuracy.outputs}
    assert (scores["map"].weight, scores["present"].weight) == (0.0, 2.0)
    assert scores["map"].metric == "cosine similarity"
    assert accuracy.drop == scores["present"].drop < scores["map"].drop


def test_an_unknown_output_is_refused_with_the_nearest(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files, "--outputs", "presnt") == 2
    assert "no output 'presnt'; it has 'present'" in capsys.readouterr().err


def test_a_gate_checks_single_outputs(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(files) == 0

    def gate(*flags: str) -> int:
        with pytest.raises(SystemExit) as left:
            cli_support.run_and_exit(cli, ["gate", str(files / "out"), "--max-drop", "5", *flags])
        return int(left.value.code or 0)

    assert gate() == 1
    assert "of map" in capsys.readouterr().out
    assert gate("--outputs", "present") == 0
    assert gate("--outputs", "masks") == 2
    assert "no output 'masks'" in capsys.readouterr().err
