"""``gate --runs``: what it measures, what it keeps, and what it refuses."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgeprune.cli import measure_again as module
from edgeprune.cli.measure_again import measure_again
from edgeprune.errors import BackendError, UsageError
from edgeprune.latency.bench import BenchResult
from edgeprune.report import Latency, ModelFile, Report
from edgeprune.timing.protocol import ratio
from tests.cli.test_commands import run
from tests.reports import measurement, report


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(b"original")
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"result")
    made = report(
        model=ModelFile("net.onnx", hashlib.sha256(b"original").hexdigest()),
        recipe={"model": "../net.onnx", "target": "cpu", "threads": 2, "shape": ["x=1x3x8x8"], "speedup": 2.0},
    )
    (out / "report.json").write_text(made.to_json())
    return out


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; each prints what `edgeprune bench` would."""
    seen: list[list[str]] = []

    def bench(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        seen.append(command)
        before, after = (measurement(ms, noise=0.01, seed=len(seen)) for ms in (6.0, 2.0))
        found = BenchResult(
            "Processor, 2 cores", "onnxruntime 1.0, numpy 2.0", 2, {"a": before, "b": after}, ratio(before, after)
        )
        return subprocess.CompletedProcess(command, 0, json.dumps(found.to_json()), "")

    monkeypatch.setattr(module.subprocess, "run", bench)
    return seen


def test_runs_are_added_to_the_report_until_there_are_enough(folder: Path, commands: list[list[str]]):
    found = measure_again(folder, Report.load(folder), 3)
    assert found.latency is not None
    assert len(found.latency.runs) == 3
    assert Report.load(folder) == found
    first, second = commands
    assert first == second
    assert first[2:] == [
        *("edgeprune", "bench", str(folder / "../net.onnx"), str(folder / "model.onnx"), "--json", "-q"),
        *("--target", "cpu", "--threads", "2", "--shape", "x=1x3x8x8"),
    ]
    assert measure_again(folder / "report.json", found, 3) == found
    assert len(commands) == 2


def test_a_runtime_that_compile_chose_is_named(folder: Path, commands: list[list[str]]):
    made = Report.load(folder)
    measure_again(folder, dataclasses.replace(made, recipe={**(made.recipe or {}), "runtime": "auto"}), 2)
    assert commands[0][commands[0].index("--runtime") + 1] == "onnxruntime"


def test_the_gate_measures_and_keeps_them_in_the_baseline(folder: Path, commands: list[list[str]], tmp_path: Path):
    baselines = tmp_path / "baselines"
    assert run("gate", folder, "--runs", 2, "--baseline", baselines, "--update-baseline", "-q") == 0
    kept = Report.load(baselines / "net.cpu.json").latency
    assert kept is not None
    assert len(kept.runs) == 2
    assert len(commands) == 1


def changed(folder: Path, **changes: object) -> Report:
    return dataclasses.replace(Report.load(folder), **changes)  # type: ignore[arg-type]


def test_what_cannot_be_measured_again_is_refused(folder: Path):
    measured = Report.load(folder).latency
    assert isinstance(measured, Latency)
    other = dataclasses.replace(measured, baseline_runtime="onnxruntime 1.0", runtime="openvino 2026.4")
    for made, place, reason in [
        (changed(folder, latency=None), folder, "no measured latency"),
        (changed(folder, latency=other), folder, "original in onnxruntime 1.0 and the result in openvino 2026.4"),
        (changed(folder, recipe=None), folder, "original model of the report, None, is not there"),
        (changed(folder), folder / "report.txt", "give the folder of compile"),
        (changed(folder, model=ModelFile("net.onnx", "00" * 32)), folder, "no longer the model that was compiled"),
    ]:
        with pytest.raises(UsageError, match=reason):
            measure_again(place, made, 2)


def test_a_measurement_on_another_machine_is_not_mixed_in(folder: Path, commands: list[list[str]]):
    measured = Report.load(folder).latency
    assert measured is not None
    made = changed(folder, latency=dataclasses.replace(measured, device="Another processor"))
    with pytest.raises(UsageError, match="measured on Another processor, not on Processor, 2 cores: compile anew here"):
        measure_again(folder, made, 2)
    made = changed(folder, latency=dataclasses.replace(measured, runtime="onnxruntime 0.9"))
    with pytest.raises(UsageError, match=r"with onnxruntime 0\.9, not with onnxruntime 1\.0, numpy"):
        measure_again(folder, made, 2)
    kept = Report.load(folder).latency
    assert kept is not None
    assert not kept.repeats


def test_a_measurement_that_fails_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch):
    failed = subprocess.CompletedProcess([], 5, "", "reading\nerror: the board is off\n")
    monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(BackendError, match="--runs: the measurement failed: the board is off"):
        measure_again(folder, report(recipe=Report.load(folder).recipe, model=Report.load(folder).model), 2)
