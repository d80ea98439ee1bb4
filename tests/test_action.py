"""action.yml and the pipelines in examples/ci, run as GitHub and GitLab run them: their scripts, by bash, in order."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import yaml

from edgeprune.report.model import Report
from tests.cli.test_models import build
from tests.reports import latency, measurement

ROOT = Path(__file__).resolve().parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
COMPILE = "--target cpu --precision fp32 --threads 1"


class Job:
    """A job's folder, its files for summaries and outputs, and what its steps left."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.summary, self.log = folder / "summary.md", ""
        self.summary.touch()
        self.outputs: dict[str, dict[str, str]] = {}

    def run(self, **inputs: str) -> int:
        """Exit code of the first step that fails, or 0."""
        given = {
            name: inputs.get(name.replace("-", "_"), str(spec["default"])) for name, spec in ACTION["inputs"].items()
        }
        given["install"] = ""
        for step in ACTION["runs"]["steps"]:
            if "uses" in step or not self._wanted(step, given):
                continue
            code = self._step(step, given)
            if code:
                return code
        return 0

    def _wanted(self, step: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        if "if" not in step:
            return True
        name, sign, text = re.fullmatch(r"inputs\.(\S+) (==|!=) '(.*)'", step["if"]).groups()  # type: ignore[union-attr]
        return (inputs[name] == text) == (sign == "==")

    def _step(self, step: Mapping[str, Any], inputs: Mapping[str, str]) -> int:
        assert EXPRESSION.search(step["run"]) is None, "an input inside a script could run as a command"
        out = self.folder / "output.txt"
        out.write_text("")
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CI": "true"}
        env |= {"GITHUB_ACTIONS": "true", "GITHUB_OUTPUT": str(out), "GITHUB_STEP_SUMMARY": str(self.summary)}
        env |= {name: self._expand(str(text), inputs) for name, text in step.get("env", {}).items()}
        assert step["shell"] == "bash"
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        self.log += done.stdout + done.stderr
        if "id" in step:
            self.outputs[step["id"]] = dict(line.split("=", 1) for line in out.read_text().splitlines())
        return done.returncode

    def _expand(self, text: str, inputs: Mapping[str, str]) -> str:
        known = {f"inputs.{name}": value for name, value in inputs.items()} | {"runner.temp": str(self.folder / "tmp")}
        return EXPRESSION.sub(lambda found: known[found.group(1)], text)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job that compiled a small model by a recipe, without a gate."""
    folder = tmp_path_factory.mktemp("job")
    onnx.save(build(), folder / "net.onnx")
    images = np.random.default_rng(0).standard_normal((32, 3, 12, 12)).astype(np.float32)
    np.savez(folder / "my images.npz", image=images)
    (folder / "recipe.toml").write_text('model = "net.onnx"\ncalib = "my images.npz"\ntarget = "orin"\n')
    job = Job(folder)
    assert job.run(recipe="recipe.toml", compile_args=COMPILE, bench_seconds="0.01") == 0, job.log
    return job


def test_it_compiles_by_a_recipe_benches_and_reports(compiled: Job):
    summary = compiled.summary.read_text()
    assert "### edgeprune bench" in summary
    assert "95% interval" in summary
    assert "## edgeprune: net.onnx compiled for cpu" in summary
    assert compiled.outputs["compile"] == {"folder": "edgeprune-output"}
    report = Report.load(compiled.folder / "edgeprune-output")
    assert report.recipe is not None
    assert report.recipe["calib"] == "../my images.npz"
    assert (compiled.folder / "tmp" / "edgeprune-cache").is_dir()
    assert "reading the model" not in compiled.log


def gated(compiled: Job, folder: Path, report: Report | None = None, **inputs: str) -> tuple[int, Job]:
    """The gate's step alone, on what was compiled, or on another report."""
    job = Job(folder)
    (folder / "edgeprune-output").mkdir()
    text = (report or Report.load(compiled.folder / "edgeprune-output")).to_json()
    (folder / "edgeprune-output" / "report.json").write_text(text)
    (step,) = (step for step in ACTION["runs"]["steps"] if step.get("id") == "gate")
    given = {name: inputs.get(name.replace("-", "_"), str(spec["default"])) for name, spec in ACTION["inputs"].items()}
    return job._step(step, given), job


def test_a_gate_that_passes(compiled: Job, tmp_path: Path):
    code, job = gated(compiled, tmp_path, max_latency_ms="1000", max_drop="100")
    assert code == 0, job.log
    assert job.log.count("::notice title=edgeprune%3A") == 2
    assert "### edgeprune gate: passed" in job.summary.read_text()
    assert job.outputs["gate"]["verdict"] == "passed"
    assert float(job.outputs["gate"]["latency-ms"]) > 0
    assert ElementTree.parse(tmp_path / "edgeprune-output" / "gate.xml").getroot().get("failures") == "0"


def test_a_gate_that_fails(compiled: Job, tmp_path: Path):
    steady = latency(measurement(9.0), measurement(6.0))
    found = dataclasses.replace(Report.load(compiled.folder / "edgeprune-output"), latency=steady)
    code, job = gated(compiled, tmp_path, found, max_latency_ms="1", gate_args="--noise '1%' --verbose")
    assert code == 1
    assert "::error title=edgeprune%3A latency fail::" in job.log
    assert job.outputs["gate"]["verdict"] == "failed"


def test_a_throttled_runner_is_a_warning_and_no_failure(compiled: Job, tmp_path: Path):
    found = Report.load(compiled.folder / "edgeprune-output")
    hot = dataclasses.replace(measurement(9.0), blocks_ms=tuple(6.0 + 0.2 * i for i in range(30)))
    throttled = dataclasses.replace(found, latency=latency(hot, hot))
    code, job = gated(compiled, tmp_path, throttled, max_latency_ms="8")
    assert code == 0
    assert "::warning title=edgeprune%3A latency unreliable::" in job.log
    assert job.outputs["gate"]["verdict"] == "unreliable"


def test_wrong_inputs_fail_with_a_sentence(tmp_path: Path):
    job = Job(tmp_path)
    assert job.run(model="none.onnx", compile_args="--target cpu") == 2
    assert "edgeprune: compile needs calibration data" in job.log


def test_gitlab(compiled: Job, tmp_path: Path):
    pipeline = yaml.safe_load((ROOT / "examples" / "ci" / "gitlab-ci.yml").read_text(encoding="utf-8"))["latency"]
    compile_line, gate_line = pipeline["script"]
    assert compile_line == "edgeprune compile --recipe recipe.toml --out out --force"
    (tmp_path / "out").mkdir()
    quiet = latency(measurement(9.0, noise=0.01), measurement(6.0, noise=0.01, seed=1))
    found = dataclasses.replace(Report.load(compiled.folder / "edgeprune-output"), latency=quiet)
    (tmp_path / "out" / "report.json").write_text(found.to_json())
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CI": "true"}

    def gitlab(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["bash", "-ec", line], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    first = gitlab(gate_line)
    assert first.returncode == 2
    assert "--update-baseline" in first.stderr
    kept = gitlab("edgeprune gate out --baseline baselines --update-baseline")
    assert kept.returncode == 0, kept.stderr
    again = gitlab(gate_line.replace("--max-drop 1 ", "--max-drop 100 "))
    assert again.returncode == 0, again.stderr
    assert ElementTree.parse(tmp_path / pipeline["artifacts"]["reports"]["junit"]).getroot().get("failures") == "0"
    assert pipeline["allow_failure"]["exit_codes"] == [6]


def test_the_workflow_gives_inputs_that_the_action_has():
    workflow = yaml.safe_load((ROOT / "examples" / "ci" / "github.yml").read_text(encoding="utf-8"))
    (step,) = (s for s in workflow["jobs"]["gate"]["steps"] if s.get("id") == "edgeprune")
    assert set(step["with"]) <= set(ACTION["inputs"])
    assert "outputs.folder" in str(workflow)
    assert "folder" in ACTION["outputs"]
