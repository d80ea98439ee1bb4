"""Baselines of the gate: older reports in a repository, without the parts that only people read, so diffs are small.

A folder of baselines has ``MODEL.TARGET.json`` for the first kind of machine and ``MODEL.TARGET.KIND.json`` for others,
because hosted CI runners have different processors.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from statistics import median

from edgeprune.errors import UsageError
from edgeprune.gate.budgets import THROTTLING
from edgeprune.report import Latency, Report
from edgeprune.support import write_text
from edgeprune.timing import Disturbance, disturbance

SLOWER_MACHINE = 0.10
"""If the unchanged original is slower than before by more than this fraction, the machine is slower."""

SLOWER_MACHINE_SIGMA = 0.02
"""Standard deviation of how much slower the machine is for another model than for the original."""


def find_baseline(place: Path, report: Report, *, missing_ok: bool) -> Report | None:
    """The older report to compare ``report`` with; None if there is none yet and ``missing_ok``.

    Args:
        place: a report.json, an output folder, or a folder of baselines. If the folder has no baseline of this kind of
            machine, one of another kind is used, unless ``missing_ok``.
        report: the new report.
        missing_ok: a baseline need not exist.

    Raises:
        UsageError: there is no baseline, or it cannot be read.
    """
    own, any_machine = baseline_file(place, report), _of_any_machine(place, report)
    for file in (own,) if missing_ok else (own, any_machine):
        if file.is_file():
            return Report.load(file)
    if missing_ok:
        return None
    raise UsageError(f"there is no baseline {str(any_machine)!r}; --update-baseline keeps this report as one")


def keep_baseline(place: Path, report: Report) -> Path:
    """Write a report as the baseline; returns its file.

    Raises:
        UsageError: the report has no latency, or the file cannot be written.
    """
    if report.latency is None and report.predicted is None:
        raise UsageError("the report has neither a measured nor a predicted latency, so it cannot be a baseline")
    file = baseline_file(place, report)
    file.parent.mkdir(parents=True, exist_ok=True)
    bare = dataclasses.replace(report, recipe=None, layers=(), refused=(), warnings=())
    write_text(file, bare.to_json())
    return file


def why_no_baseline(report: Report) -> str | None:
    """Why a report should not become a baseline: the device throttled, or most runs were disturbed; None if neither."""
    if report.latency is None:
        return None
    if (hot := report.operating_point.get(THROTTLING, "none")) != "none":
        return f"the device throttled ({hot})"
    found = [disturbance(run.baseline, run.result) for run in report.latency.runs]
    reasons = [doubt.reason for doubt in found if doubt is not None]
    return reasons[0] if 2 * len(reasons) >= len(found) else None


def baseline_file(place: Path, report: Report) -> Path:
    """The file of a report's baseline for the same kind of machine, whether it exists or not."""
    first = _of_any_machine(place, report)
    if first.parent != place or first.name == "report.json" or not first.is_file():
        return first
    if (kind := _kind_of_machine(report)) == _kind_of_machine(Report.load(first)):
        return first
    return first.with_name(f"{first.stem}.{kind}.json")


def _of_any_machine(place: Path, report: Report) -> Path:
    if place.suffix == ".json":
        return place
    if (place / "report.json").is_file():
        return place / "report.json"
    return place / f"{Path(report.model.file).stem}.{report.target}.json"


def _kind_of_machine(report: Report) -> str:
    """Eight hexadecimal digits for the device and its threads; ``predicted`` if nothing was measured."""
    if report.latency is None:
        return "predicted"
    return hashlib.sha256(f"{report.latency.device} {report.latency.threads}".encode()).hexdigest()[:8]


def slower_machine(now: Latency, before: Latency) -> Disturbance | None:
    """Why a latency cannot be compared with an older one of the same original, and how far; None if it can."""
    if (now.device, now.runtime, now.threads) != (before.device, before.runtime, before.threads):
        return None
    new_ms, old_ms = (median(run.baseline.median_ms for run in latency.runs) for latency in (now, before))
    growth = new_ms / old_ms - 1
    if growth <= SLOWER_MACHINE:
        return None
    reason = f"the unchanged original is {growth:.0%} slower than in the baseline, so the machine is slower"
    return Disturbance(reason, growth, 0.0, SLOWER_MACHINE_SIGMA)
