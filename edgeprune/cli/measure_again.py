"""``gate --runs``: measures the original and the result of a report again, each time in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgeprune.dependency import file_digest
from edgeprune.devices import AUTO
from edgeprune.errors import BackendError, UsageError
from edgeprune.report import Latency, Repeat, Report, repeats_of
from edgeprune.support import json_form, write_text
from edgeprune.timing import Measurement, Ratio


@dataclass(frozen=True)
class Sampled:
    """The latency of one build on one board."""

    board: str
    build: int
    latency: Measurement


@dataclass(frozen=True)
class Benched:
    """What is read of the output of `edgeprune bench --json`: the original's measurement, then the result's."""

    device: str
    runtime: str
    measurements: Mapping[str, Measurement]
    speedup: Ratio
    samples: Mapping[str, tuple[Sampled, ...]] = field(default_factory=dict)

    @property
    def repeats(self) -> tuple[Repeat, ...]:
        """Original and result, of every build on every board if there are several."""
        if not self.samples:
            before, after = self.measurements.values()
            return (Repeat(before, after, self.speedup),)
        pairs = zip(*self.samples.values(), strict=True)
        return repeats_of((one.board, one.build, one.latency, other.latency) for one, other in pairs)


@dataclass(frozen=True)
class Measuring:
    """How it is measured again, where that is not as in the compile."""

    devices: tuple[str, ...] = ()
    builds: int = 1
    timing_cache: Path | None = None


AS_COMPILED = Measuring()


REPEATED = ("device", "runtime", "threads", "shape", "builds", "timing-cache")
"""Flags of the compile that hold for a repeated measurement, too."""


def measure_again(
    folder: Path,
    report: Report,
    runs: int,
    done_one: Callable[[], None] = lambda: None,
    how: Measuring = AS_COMPILED,
) -> Report:
    """The report with as many separate runs as wanted; those that it lacks are measured now, and written into it.

    Args:
        folder: of the result, as compile wrote it, or the report.json in it.
        report: that of the folder.
        runs: how many separate measurements are wanted, the first one included.
        done_one: called after each measurement.
        how: where and how it is measured.

    Raises:
        UsageError: the report cannot be measured again: it is a file alone, it has no measured latency or no recipe,
            the original is gone or another one, original and result run in different runtimes, or the report was
            measured on another machine or with another version of the runtime.
        BackendError: the measurement failed.
    """
    latency = report.latency
    if latency is None:
        raise UsageError("--runs: the report has no measured latency")
    if latency.times_measured >= runs:
        return report
    folder = folder.parent if folder.name == "report.json" else folder
    command = _command(folder, report, latency, how)
    for _ in range(latency.times_measured, runs):
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
        latency = replace(latency, repeats=(*latency.repeats, *found.repeats))
        report = replace(report, latency=latency)
        write_text(folder / "report.json", report.to_json())
        done_one()
    return report


def _command(folder: Path, report: Report, latency: Latency, how: Measuring) -> list[str]:
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
    settled: dict[str, object] = {"runtime": latency.runtime.split()[0]} if recipe.get("runtime") == AUTO else {}
    settled |= {"device": list(how.devices)} if how.devices else {}
    settled |= {"builds": how.builds} if how.builds > 1 else {}
    if how.timing_cache is not None:
        settled["timing-cache"] = how.timing_cache
    elif "timing-cache" in recipe:
        settled["timing-cache"] = folder / str(recipe["timing-cache"])
    for name in REPEATED:
        value = settled.get(name, recipe.get(name))
        for item in value if isinstance(value, list) else [] if value is None else [value]:
            command += [f"--{name}", str(item)]
    return command
