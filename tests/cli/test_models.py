"""Commands on whole models: what they write, and that bad input is one sentence and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import external_data_helper, numpy_helper

from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from tests.quick_timing import time_quickly

NET = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[batch, 3, 12, 12] image) => (float[batch, 5] logits)
{ a = Conv<pads = [1, 1, 1, 1]>(image, w1)
  b = Relu(a)
  c = Conv<pads = [1, 1, 1, 1]>(b, w2)
  d = Relu(c)
  e = GlobalAveragePool(d)
  f = Flatten(e)
  logits = Gemm<transB = 1>(f, w3, bias) }
"""
WEIGHTS = {"w1": (16, 3, 3, 3), "w2": (24, 16, 3, 3), "w3": (5, 24), "bias": (5,)}


def build(spoil: Callable[[dict[str, np.ndarray]], None] = lambda weights: None) -> onnx.ModelProto:
    """A small classifier with seeded weights."""
    model = onnx.parser.parse_model(NET)
    random = np.random.default_rng(0)
    weights = {name: random.standard_normal(shape).astype(np.float32) * 0.2 for name, shape in WEIGHTS.items()}
    spoil(weights)
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the working folder."""
    monkeypatch.chdir(tmp_path)
    onnx.save(build(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, [str(argument) for argument in arguments])
    said = capsys.readouterr()
    return int(str(exited.value.code)), said.out, said.err


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and the one sentence of a command that fails and leaves nothing behind; progress is switched off."""
    folder = Path(str(arguments[1])).parent
    before = sorted(folder.rglob("*"))
    code, out, err = run(capsys, *arguments, "--quiet")
    assert out == ""
    assert err.startswith("edgeprune: ")
    assert err.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
    return code, err


def prune(net: Path, *more: object) -> tuple[object, ...]:
    return ("prune", net, "--ratio", 0.5, "--no-compensate", *more)


def test_prune_writes_its_folder(net: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, *prune(net))
    assert code == 0
    folder = net.parent / "net.pruned"
    assert "written to net.pruned" in out
    assert {"dense.onnx", "model.onnx", "plan.json", "report.json"} <= {file.name for file in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    assert report["sizes"]["result"]["parameters"] < report["sizes"]["baseline"]["parameters"]
    onnx.checker.check_model(onnx.load(folder / "model.onnx"), full_check=True)


def test_prune_prints_its_report_as_json_or_its_reasons(net: Path, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, *prune(net, "--json", "-q"))
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((net.parent / "net.pruned" / "report.json").read_text())
    code, out, _ = run(capsys, *prune(net, "--force", "-v"))
    assert code == 0
    assert "left whole: " in out
    assert "(at " in out


def test_an_output_folder_that_exists_needs_force(net: Path, capsys: pytest.CaptureFixture[str]):
    assert run(capsys, *prune(net, "-q"))[0] == 0
    code, sentence = refused(capsys, *prune(net))
    assert code == 2
    assert "--force" in sentence
    assert run(capsys, *prune(net, "--force", "-q"))[0] == 0
    assert not [entry for entry in net.parent.iterdir() if entry.name.startswith(".")]


def test_inspect_says_what_can_go_and_why_not(net: Path, capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, "inspect", net, "--json")
    assert code == 0
    found = json.loads(out)
    assert sorted(group["size"] for group in found["groups"]) == [16, 24]
    assert found["parameters"] == sum(int(np.prod(shape)) for shape in WEIGHTS.values())
    assert run(capsys, "inspect", net)[0] == 0
    code, out, _ = run(capsys, "inspect", net, "--why", "w3")
    assert code == 0
    assert "axis 0" in out
    assert "frozen" in out
    assert json.loads(run(capsys, "inspect", net, "--why", "w3", "--json")[1])["axes"] == out.splitlines()


def test_inspect_draws_the_groups(net: Path, capsys: pytest.CaptureFixture[str]):
    dot, html = net.parent / "g.dot", net.parent / "g.html"
    code, out, _ = run(capsys, "inspect", net, "--dot", dot, "--html", html, "--json")
    assert code == 0
    assert json.loads(out)["groups"]
    assert dot.read_text().startswith("digraph groups {")
    assert html.read_text().startswith("<!DOCTYPE html>")
    code, sentence = refused(capsys, "inspect", net, "--html", net.parent / "missing" / "g.html")
    assert code == 2
    assert "missing" in sentence


def test_profile_measures_a_model(net: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(net.parent / "cache"))
    time_quickly(monkeypatch)
    code, _, _ = run(capsys, "profile", net, "--target", "cpu", "-o", net.parent / "profile.json", "-q")
    assert code == 0
    measured = json.loads((net.parent / "profile.json").read_text())
    assert measured["source"] == "measured"
    assert measured["blocks"]


def not_onnx(file: Path) -> None:
    file.write_bytes(b"GIF89a is not a model")


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-700])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def nan_in_weights(file: Path) -> None:
    def spoil(weights: dict[str, np.ndarray]) -> None:
        weights["w2"][3, 2, 1, 0] = np.nan

    onnx.save(build(spoil), file)


def external_data_missing(file: Path) -> None:
    save_external(file, "weights.bin")
    (file.parent / "weights.bin").unlink()


def external_data_outside(file: Path) -> None:
    save_external(file, "weights.bin")
    outside = file.parent.parent / f"{file.parent.name}.bin"
    (file.parent / "weights.bin").rename(outside)
    model = onnx.load(file, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = f"../{outside.name}"
    file.write_bytes(model.SerializeToString())


def save_external(file: Path, location: str) -> None:
    model = build()
    external_data_helper.convert_model_to_external_data(model, location=location, size_threshold=0)
    onnx.save(model, file)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (not_onnx, "net.onnx"),
        (truncated, "net.onnx"),
        (empty, "net.onnx"),
        (nan_in_weights, "w2"),
        (external_data_missing, "weights.bin"),
        (external_data_outside, "outside"),
        (Path.unlink, "net.onnx"),
    ],
)
@pytest.mark.parametrize("command", ["prune", "compile"])
def test_a_bad_model_is_refused(
    spoil: Callable[[Path], None], word: str, command: str, net: Path, capsys: pytest.CaptureFixture[str]
):
    spoil(net)
    compiling = ("compile", net, "--target", "cpu", "--speedup", 2, "--calib", "random")
    code, sentence = refused(capsys, *(prune(net) if command == "prune" else compiling))
    assert code == 3
    assert word in sentence


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"picture": np.zeros((8, 3, 12, 12), np.float32)}, "'image'"),
        ({"image": np.zeros((8, 3, 12, 13), np.float32)}, "13"),
        ({"image": np.zeros((8, 1, 12, 12), np.float32)}, "image"),
        ({"image": np.full((8, 3, 12, 12), np.nan, np.float32)}, "NaN"),
        ({"image": np.zeros((0, 3, 12, 12), np.float32)}, "samples"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(
    arrays: dict[str, np.ndarray], word: str, net: Path, capsys: pytest.CaptureFixture[str]
):
    np.savez(net.parent / "calib.npz", **arrays)
    code, sentence = refused(capsys, "prune", net, "--ratio", 0.5, "--calib", net.parent / "calib.npz")
    assert code == 2
    assert word in sentence


@pytest.mark.parametrize(
    "arguments",
    [("prune", "--ratio", 0.5), ("compile", "--target", "cpu", "--speedup", 2), ("compile", "--target", "cpu")],
)
def test_no_calibration_is_refused(arguments: tuple[object, ...], net: Path, capsys: pytest.CaptureFixture[str]):
    code, sentence = refused(capsys, arguments[0], net, *arguments[1:])
    assert code == 2
    assert "--calib" in sentence


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from edgeprune.cli import main
import edgeprune.compiler
resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))
main(sys.argv[1:])
"""


def test_a_full_disk_leaves_nothing_half_written(net: Path):
    """A limit on the size of files replaces the full disk: writing fails halfway through the first model."""
    pytest.importorskip("resource")
    before = sorted(net.parent.rglob("*"))
    command = [sys.executable, "-c", LIMITED, *map(str, prune(net, "-q"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("edgeprune: cannot write")
    assert done.stderr.count("\n") == 1
    assert sorted(net.parent.rglob("*")) == before


def restore_interrupt():
    """In a child: take Ctrl-C, which a background job starts with ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_nothing_half_written(net: Path):
    before = sorted(net.parent.rglob("*"))
    calibration = net.parent / "slow.py"
    calibration.write_text(
        "import time, numpy\n"
        "def feeds():\n"
        "    open('started', 'w').close()\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
        "        yield {'image': numpy.zeros((1, 3, 12, 12), numpy.float32)}\n"
    )
    command = [
        sys.executable,
        "-m",
        "edgeprune",
        "prune",
        str(net),
        "--ratio",
        "0.5",
        "--calib",
        f"{calibration}:feeds",
    ]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=net.parent, env=environment, preexec_fn=restore_interrupt
    )
    deadline = time.monotonic() + 60
    while not (net.parent / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "edgeprune: interrupted"
    assert "Traceback" not in said
    left = {path.name for path in net.parent.rglob("*")} - {path.name for path in before}
    assert left == {"slow.py", "started"}
