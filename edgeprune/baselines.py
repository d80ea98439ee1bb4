"""Baselines of the gate, kept in a repository: older reports without what only people read, so that diffs are small."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgeprune.errors import UsageError
from edgeprune.output import write_text
from edgeprune.report.model import Report


def find_baseline(place: Path, report: Report, *, missing_ok: bool) -> Report | None:
    """The older report to compare one with, or None where there is none yet and ``missing_ok``.

    Args:
        place: a report.json, an output folder, or a folder of baselines, ``MODEL.TARGET.json`` each.
        report: what it is to be compared with.
        missing_ok: there need not be one.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    file = baseline_file(place, report)
    if not file.is_file():
        if missing_ok:
            return None
        raise UsageError(f"there is no baseline {str(file)!r}; --update-baseline keeps this report as one")
    return Report.load(file)


def keep_baseline(place: Path, report: Report) -> Path:
    """Write a report as the baseline, and say where.

    Raises:
        UsageError: it holds no measured latency, or cannot be written.
    """
    if report.latency is None:
        raise UsageError("the report holds no measured latency, so it is no baseline")
    file = baseline_file(place, report)
    file.parent.mkdir(parents=True, exist_ok=True)
    bare = dataclasses.replace(report, recipe=None, layers=(), refused=(), warnings=())
    write_text(file, bare.to_json())
    return file


def baseline_file(place: Path, report: Report) -> Path:
    """Where the baseline of a report is."""
    if place.suffix == ".json":
        return place
    if (place / "report.json").is_file():
        return place / "report.json"
    return place / f"{Path(report.model.file).stem}.{report.target}.json"
