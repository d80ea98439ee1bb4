"""The gate in a GitHub job: annotations as workflow commands, and the files that environment variables name."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from edgeprune.errors import UsageError
from edgeprune.gate.verdicts import Check, Gate
from edgeprune.report import Report, to_markdown

_LEVELS = {"fail": "error", "unreliable": "warning", "unsure": "notice", "pass": "notice"}


def report_to_job(gate: Gate, report: Report) -> None:
    """Print an annotation for every check, extend the job's summary, and set the step's outputs.

    Raises:
        UsageError: a file that an environment variable names cannot be written.
    """
    for check in gate.checks:
        sys.stdout.write(annotation(check))
    for note in gate.notes:
        sys.stdout.write(f"::warning title={_property('edgeprune: result')}::{_data(note)}\n")
    sys.stdout.flush()
    _append("GITHUB_STEP_SUMMARY", f"{gate.to_markdown()}\n{to_markdown(report)}\n")
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs(gate, report).items()))


def annotation(check: Check) -> str:
    """A workflow command for one check, one line."""
    text = f"{check.value}, limit {check.limit}: {check.detail}"
    return f"::{_LEVELS[check.verdict]} title={_property(f'edgeprune: {check.name} {check.verdict}')}::{_data(text)}\n"


def outputs(gate: Gate, report: Report) -> Mapping[str, str]:
    """What later steps can read: the verdict and the available figures; of several runs the medians."""
    found: dict[str, str] = {"verdict": gate.verdict}
    if report.latency is not None:
        runs = report.latency.runs
        found["latency-ms"] = f"{median(run.result.median_ms for run in runs):.6g}"
        found["speedup"] = f"{median(run.speedup.value for run in runs):.6g}"
    if report.accuracy is not None:
        found["drop"] = f"{report.accuracy.drop:.6g}"
    return found


def _append(variable: str, text: str) -> None:
    if not (name := os.environ.get(variable)):
        return
    try:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write ${variable}, {name!r}: {error.strerror}") from error


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
