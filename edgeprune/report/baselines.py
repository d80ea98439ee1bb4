"""Baselines of the gate, kept in a repository: older reports without what only people read, so that diffs are small.

A folder of them holds ``MODEL.TARGET.json`` of the first kind of machine, and ``MODEL.TARGET.KIND.json`` of others: who
runs jobs on hosted runners does not choose their processor.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

from edgeprune.errors import UsageError
from edgeprune.report.model import Latency, Report
from edgeprune.support import write_text

SLOWER_MACHINE = 0.10
"""How much slower the unchanged original may be than it was, before the machine is said to be another."""


def find_baseline(place: Path, report: Report, *, missing_ok: bool) -> Report | None:
    """The older report to compare one with, or None where there is none yet and ``missing_ok``.

    Args:
        place: a report.json, an output folder, or a folder of baselines; there, one of another kind of machine is found
            where there is none of this one's, unless ``missing_ok``.
        report: what it is to be compared with.
        missing_ok: there need not be one.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    own, any_machine = baseline_file(place, report), _of_any_machine(place, report)
    for file in (own,) if missing_ok else (own, any_machine):
        if file.is_file():
            return Report.load(file)
    if missing_ok:
        return None
    raise UsageError(f"there is no baseline {str(any_machine)!r}; --update-baseline keeps this report as one")


def keep_baseline(place: Path, report: Report) -> Path:
    """Write a report as the baseline, and say where.

    Raises:
        UsageError: it holds no latency, or cannot be written.
    """
    if report.latency is None and report.predicted is None:
        raise UsageError("the report holds neither a measured nor a predicted latency, so it is no baseline")
    file = baseline_file(place, report)
    file.parent.mkdir(parents=True, exist_ok=True)
    bare = dataclasses.replace(report, recipe=None, layers=(), refused=(), warnings=())
    write_text(file, bare.to_json())
    return file


def baseline_file(place: Path, report: Report) -> Path:
    """Where the baseline of a report is, or would be kept: of the same kind of machine."""
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
    """Eight digits for the device and its threads; what was not measured is of no machine."""
    if report.latency is None:
        return "predicted"
    return hashlib.sha256(f"{report.latency.device} {report.latency.threads}".encode()).hexdigest()[:8]


def slower_machine(now: Latency, before: Latency) -> str | None:
    """Why a latency is no ground for a verdict beside an older one of the same original, as half a sentence."""
    if (now.device, now.runtime, now.threads) != (before.device, before.runtime, before.threads):
        return None
    growth = now.baseline.median_ms / before.baseline.median_ms - 1
    if growth <= SLOWER_MACHINE:
        return None
    return f"the unchanged original is {growth:.0%} slower than when the baseline was measured: so is the machine"
