from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest

from edgeprune.backends.providers import Trial
from edgeprune.cli import doctor
from edgeprune.cli import support as cli_support
from edgeprune.cli.commands import cli
from edgeprune.cli.doctor import examine
from edgeprune.errors import TargetError

WORKING = Trial("CPUExecutionProvider", True, "ran")


@pytest.fixture(autouse=True)
def _without_native_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(doctor, "try_providers", lambda: [WORKING])
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    find_spec = importlib.util.find_spec
    absent = {"openvino", "tensorrt", "tensorrt_rtx", "torch", "onnx_graphsurgeon"}

    def find(name: str, *more: Any) -> Any:
        return None if name in absent else find_spec(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", find)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[object, str]:
    with pytest.raises(SystemExit) as exited:
        cli_support.run_and_exit(cli, ["doctor", *arguments])
    return exited.value.code, capsys.readouterr().out


def test_a_whole_installation_is_healthy(capsys: pytest.CaptureFixture[str]):
    code, out = run(capsys, "--target", "cpu", "-v")
    assert code == 0
    assert "everything needed for target cpu works" in out
    code, out = run(capsys, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["healthy"] is True
    names = [f["name"] for f in found["findings"]]
    assert {"edgeprune", "onnx", "onnxruntime", "CPUExecutionProvider", "cache folder", "[torch]"} <= set(names)


def test_what_is_missing_comes_with_the_command_that_installs_it(capsys: pytest.CaptureFixture[str]):
    _, out = run(capsys, "--target", "orin")
    assert "optional, for [torch]: pip install 'edgeprune[torch]'" in out
    assert "--target orin --device ssh://" in out


def test_a_provider_that_fails_is_broken_and_the_cpu_is_needed(monkeypatch: pytest.MonkeyPatch):
    gpu = Trial("CUDAExecutionProvider", False, "no driver")
    monkeypatch.setattr(doctor, "try_providers", lambda: [gpu, WORKING])
    found = examine()
    assert found.healthy
    assert next(f for f in found.findings if f.name == gpu.provider).status == "broken"
    monkeypatch.setattr(doctor, "try_providers", lambda: [Trial(WORKING.provider, False, "x")])
    assert not examine().healthy


def test_something_needed_that_is_broken_is_exit_code_5(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "file" / "cache"))
    code, out = run(capsys, "-q")
    assert code == 5
    assert "EDGEPRUNE_CACHE" in out


def test_a_device_at_hand_needs_trtexec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    tegra = tmp_path / "nv_tegra_release"
    tegra.touch()
    monkeypatch.setattr(doctor, "_JETSON", tegra)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = {f.name: f for f in examine("orin").findings}
    assert found["trtexec"].remedy == "sudo apt install tensorrt"
    assert found["device orin"].status == "ok"


def test_an_unknown_target_is_refused():
    with pytest.raises(TargetError, match="toaster"):
        examine("toaster")


def test_openvino_is_tried_for_a_cpu_if_it_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    _, out = run(capsys, "--target", "cpu")
    assert "optional, for [openvino]: pip install 'edgeprune[openvino]'" in out
    monkeypatch.setattr(doctor, "openvino_is_installed", lambda: True)
    for works, status in ((True, "ok"), (False, "broken")):
        monkeypatch.setattr(doctor, "try_openvino", lambda works=works: Trial("OpenVINO", works, "tried"))
        found = {f.name: f for f in examine("cpu").findings}
        assert (found["OpenVINO"].status, found["OpenVINO"].detail) == (status, "tried")
        assert examine("cpu").healthy  # onnxruntime is enough
    assert "OpenVINO" not in {f.name for f in examine("orin").findings}
