from __future__ import annotations

import subprocess
from typing import Any

import pytest

from edgeprune.backends import providers
from edgeprune.backends.providers import Trial, run_tiny_model, try_provider, try_providers

CPU = "CPUExecutionProvider"


def test_the_cpu_works():
    trial = try_provider(CPU)
    assert trial == Trial(CPU, True, "ran a convolution with the correct result")
    assert CPU in [t.provider for t in try_providers()]


def test_a_provider_that_lets_the_cpu_work_is_found_out():
    trial = run_tiny_model("AzureExecutionProvider")
    assert not trial.works
    assert trial.detail == f"it is listed, but {CPU} ran the model"


def test_a_crash_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    def crashed(*_: Any, **__: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess([], -11, b"", b"no driver\n")

    monkeypatch.setattr(subprocess, "run", crashed)
    assert try_provider("CUDAExecutionProvider").detail == "it failed (signal 11): no driver"


def test_silence_is_an_answer(monkeypatch: pytest.MonkeyPatch):
    def silent(*_: Any, **__: Any) -> subprocess.CompletedProcess[bytes]:
        raise subprocess.TimeoutExpired([], providers.TIMEOUT_S)

    monkeypatch.setattr(subprocess, "run", silent)
    assert try_provider("CUDAExecutionProvider").detail == "it did not answer within 120 s"
