"""``--target cpu --device ssh://...``: measured by onnxruntime at the end of a real SSH connection, scored here."""

from __future__ import annotations

import functools
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune.backends.device import open_device
from edgeprune.cli.commands import cli
from edgeprune.compiler import open_session
from edgeprune.errors import UsageError
from edgeprune.latency import cpu_model, remote_harness
from edgeprune.report.model import Report
from tests.backends.loopback import MISSING, Loopback, loopback
from tests.compiler.test_compile import files as files  # the model and its data
from tests.quick_timing import time_quickly

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed (openssh-server)")


@pytest.fixture(scope="module")
def device() -> Iterator[Loopback]:
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, loopback(Path(folder)) as running:
        running.program("python3", f"exec '{sys.executable}' \"$@\"")
        yield running


@pytest.fixture(autouse=True)
def surroundings(device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (remote_harness, open_session):  # a compile describes the device before all work
        monkeypatch.setattr(module, "open_device", functools.partial(open_device, ssh_config=device.config))
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    time_quickly(monkeypatch)
    for name in ("RANDOM_VARIANTS", "MIXED_VARIANTS"):
        monkeypatch.setattr(cpu_model, name, 1)


def test_a_model_is_compiled_for_a_cpu_elsewhere(files: Path, device: Loopback, tmp_path: Path) -> None:
    flags = ["--target", "cpu", "--device", device.url, "--calib", str(files / "calib.npz"), "--speedup", "1.01"]
    result = CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), *flags, "-o", str(tmp_path / "out")])
    assert result.exception is None, result.output
    report = Report.load(tmp_path / "out")
    assert report.latency is not None
    assert report.latency.runtime.startswith("onnxruntime ")
    assert report.latency.baseline.runs > 0
    assert report.predicted is not None
    assert report.predicted.source == "measured"
    assert not list((device.folder / "tmp").glob("edgeprune-*"))


def test_blocks_are_timed_there(files: Path, device: Loopback) -> None:
    flags = ["--target", "cpu", "--device", device.url, "-q"]
    result = CliRunner().invoke(cli, ["profile", str(files / "net.onnx"), *flags])
    assert result.exception is None, result.output
    blocks = json.loads(result.output)["blocks"]
    assert np.sum([b["formats"]["fp32"]["latency_us"] for b in blocks]) > 0


def test_an_address_that_is_none_is_refused(files: Path) -> None:
    result = CliRunner().invoke(cli, ["profile", str(files / "net.onnx"), "--target", "cpu", "--device", "ftp://x"])
    assert isinstance(result.exception, UsageError)
