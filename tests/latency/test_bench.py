"""``edgeprune bench --device`` on this machine as the device, through the real runner."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner

from edgeprune.cli.commands import cli
from edgeprune.errors import BackendError, UsageError
from edgeprune.latency.bench import bench_models

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[n, 8] x) => (float[n, 8] y) {
  y = Relu(x)
}
"""


@pytest.fixture
def models(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / "one.onnx"), str(tmp_path / "two.onnx")]
    for name in names:
        onnx.save(onnx.parser.parse_model(NETWORK.strip()), name)
    return names


def test_models_are_measured_on_the_device(models: list[str]) -> None:
    flags = ["--device", "local", "--target", "cpu", "--seconds", "1", "--shape", "x=2x8", "--json"]
    result = CliRunner().invoke(cli, ["bench", *models, *flags, "-q"])
    assert result.exception is None, result.output
    found = json.loads(result.output)
    assert list(found["measurements"]) == models
    assert all(m["median_ms"] > 0 for m in found["measurements"].values())
    assert found["speedup"]["value"] > 0
    assert "onnxruntime" in found["runtime"]


def test_the_error_names_a_missing_trtexec(models: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    result = CliRunner().invoke(cli, ["bench", models[0], "--device", "local", "--target", "orin", "-q"])
    assert isinstance(result.exception, BackendError)
    assert "trtexec" in str(result.exception)


@pytest.mark.parametrize(("names", "device"), [([0, 0], "local"), ([0], "ftp://nowhere")])
def test_a_file_given_twice_and_a_wrong_address_are_refused(models: list[str], names: list[int], device: str) -> None:
    result = CliRunner().invoke(cli, ["bench", *(models[i] for i in names), "--device", device, "-q"])
    assert isinstance(result.exception, UsageError)


def test_other_targets_cannot_be_measured_here() -> None:
    with pytest.raises(BackendError, match="can measure on 'orin'"):
        bench_models([Path("net.onnx")], target="orin")


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
def test_openvino_measures_onnx_files_and_its_own(models: list[str], tmp_path: Path) -> None:
    import openvino as ov

    own = tmp_path / "three.xml"
    ov.save_model(ov.Core().read_model(models[0]), own)
    for files, shape in ((models, "x=2x8"), ([models[0], str(own)], "x=2x8")):
        flags = ["--runtime", "openvino", "--seconds", "0.2", "--shape", shape, "--json", "-q"]
        result = CliRunner().invoke(cli, ["bench", *files, *flags])
        assert result.exception is None, result.output
        found = json.loads(result.output)
        assert list(found["measurements"]) == files
        assert found["runtime"].startswith("openvino ")


def test_openvino_is_measured_in_this_process_only(models: list[str]) -> None:
    result = CliRunner().invoke(cli, ["bench", models[0], "--runtime", "openvino", "--device", "local", "-q"])
    assert isinstance(result.exception, UsageError)
    assert "in this process only" in str(result.exception)
