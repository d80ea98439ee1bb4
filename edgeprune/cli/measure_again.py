"""``gate --runs``: measures the original and the result of a report again, each time in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edgeprune.dependency import file_digest
from edgeprune.devices import AUTO
from edgeprune.errors import BackendError, UsageError
from edgeprune.report import Latency, Repeat, Report
from edgeprune.support import json_form, write_text
from edgeprune.timing import Measurement, Ratio


@dataclass(frozen=True)
class Benched:
    """What is read of the output of `edgeprune bench --json`: the original's measurement, then the result's."""

    device: str
    runtime: str
    measurements: Mapping[str, Measurement]
    speedup: Ratio


REPEATED = ("device", "runtime", "threads", "shape")
"""Flags of the compile that hold for a repeated measurement, too."""


def measure_again(folder: Path, report: Report, runs: int, done_one: Callable[[], None] = lambda: None) -> Report:
    """The report with as many separate runs as wanted; those that it lacks are measured now, and written into it.

    Args:
        folder: of the result, as compile wrote it, or the report.json in it.
        report: that of the folder.
        runs: how many separate measurements are wanted, the first one included.
        done_one: called after each measurement.

    Raises:
        UsageError: the report cannot be measured again: it is a file alone, it has no measured latency or no recipe,
            the original is gone or another one, original and result run in different runtimes, or the report was
            measured on another machine or with another version of the runtime.
        BackendError: the measurement failed.
    """
    latency = report.latency
    if latency is None:
        raise UsageError("--runs: the report has no measured latency")
    if len(latency.runs) >= runs:
        return report
    folder = folder.parent if folder.name == "report.json" else folder
    command = _command(folder, report, latency)
    for _ in range(len(latency.runs), runs):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            lines = done.stderr.strip().splitlines() or ["it printed nothing"]
            raise BackendError(f"--runs: the measurement failed: {lines[-1].removeprefix('error: ')}")
        found = json_form.loads(Benched, done.stdout, source="the output of edgeprune bench", schema=None)
        if found.device != latency.device:
            raise UsageError(
                f"--runs: the report was measured on {latency.device}, not on {found.device}: compile anew here"
            )
        # A device may also name versions of software that a compile does not look at.
        if not set(latency.runtime.split(", ")) <= set(found.runtime.split(", ")):
            raise UsageError(
                f"--runs: the report was measured with {latency.runtime}, not with {found.runtime}: compile anew here"
            )
        before, after = found.measurements.values()
        latency = replace(latency, repeats=(*latency.repeats, Repeat(before, after, found.speedup)))
        report = replace(report, latency=latency)
        write_text(folder / "report.json", report.to_json())
        done_one()
    return report


def _command(folder: Path, report: Report, latency: Latency) -> list[str]:
    """The command line of a measurement: `edgeprune bench` of the original and the result."""
    if not folder.is_dir() or not (folder / "model.onnx").is_file():
        raise UsageError(f"--runs measures a result again: give the folder of compile, not {str(folder)!r}")
    if latency.baseline_runtime is not None:
        which = f"the original in {latency.baseline_runtime} and the result in {latency.runtime}"
        raise UsageError(f"--runs: the report compares {which}; only one runtime can be measured again")
    recipe = report.recipe or {}
    original = folder / str(recipe.get("model", ""))
    if "model" not in recipe or not original.is_file():
        raise UsageError(f"--runs: the original model of the report, {recipe.get('model')!r}, is not there")
    if file_digest(original) != report.model.sha256:
        raise UsageError(f"--runs: {str(original)!r} is no longer the model that was compiled")
    command = [sys.executable, "-m", "edgeprune", "bench", str(original), str(folder / "model.onnx"), "--json", "-q"]
    command += ["--target", report.target]
    # Only a compile can choose a runtime; the name of the one that ran the result stands before its version.
    settled = {"runtime": latency.runtime.split()[0]} if recipe.get("runtime") == AUTO else {}
    for name in REPEATED:
        value = settled.get(name, recipe.get(name))
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            command += [f"--{name}", str(item)]
    return command
