"""The report of a sweep: a curve for each model and target, and the best result for each device."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from edgeprune.report import RUN_HEADER, Run, Section, open_runs, page, run_line, table, tradeoffs
from edgeprune.support import plural, write_text
from edgeprune.sweep.grid import Job
from edgeprune.sweep.run_job import Ended

PAGE, SUMMARY = "sweep.html", "sweep.json"


@dataclass(frozen=True)
class Done:
    """A job and how it ended."""

    job: Job
    ended: Ended


def latency_ms(run: Run) -> float | None:
    """The measured latency of a result, or the predicted one."""
    report = run.report
    if report.latency is not None:
        return report.latency.result.median_ms
    return None if report.predicted is None else report.predicted.result_ms


def write_summary(done: Sequence[Done], out: Path) -> None:
    """Write the page and the summary for programs into the folder of the sweep."""
    runs = _runs(done, out)
    title = f"edgeprune: sweep of {plural(len(done), 'compile')}"
    best = [[escape(cell) for cell in row] for row in best_rows(done, out)]
    sections = [Section("Best for each device", table(BEST_HEADER, best, "Best for each device"))]
    for number, model in enumerate(dict.fromkeys(entry.job.model for entry in done)):
        mine = [runs[entry.job.key] for entry in done if entry.job.model == model and entry.job.key in runs]
        rows = [[escape(cell) for cell in run_line(run)] for run in mine]
        body = table(RUN_HEADER, rows, model, sortable=True) if rows else "<p>No compile had a result.</p>"
        sections.append(Section(Path(model).name, body, tradeoffs(mine, f"chart-{number}")))
    refused = "".join(
        f"<p>{escape(entry.job.key)}: {escape(entry.ended.sentence)}</p>" for entry in done if entry.ended.code
    )
    sections.append(Section("Not reached", refused))
    write_text(out / PAGE, page(title, f"<h1>{escape(title)}</h1>", [s for s in sections if s.body or s.charts]))
    summary = {"schema": 1, "jobs": [_entry(entry, runs.get(entry.job.key)) for entry in done]}
    write_text(out / SUMMARY, json.dumps(summary, indent=1) + "\n")


BEST_HEADER = ("target", "model", "budget", "latency", "speed", "accuracy")


def best_rows(done: Sequence[Done], out: Path) -> list[tuple[str, ...]]:
    """For every target and model the fastest result that did not lose too much to be of use."""
    runs = _runs(done, out)
    rows: list[tuple[str, ...]] = []
    for target in dict.fromkeys(entry.job.target for entry in done):
        for model in dict.fromkeys(entry.job.model for entry in done):
            mine = [e for e in done if (e.job.target, e.job.model) == (target, model) and e.job.key in runs]
            useful = [e for e in mine if not runs[e.job.key].report.outcome.below_floor]
            timed = [e for e in useful if latency_ms(runs[e.job.key]) is not None]
            if timed:
                best = min(timed, key=lambda e: latency_ms(runs[e.job.key]) or 0.0)
                _, _, _, latency, speed, scored, *_ = run_line(runs[best.job.key])
                rows.append((target, model, best.job.budget, latency, speed, scored))
            else:
                rows.append((target, model, "none was reached", "", "", ""))
    return rows


def _runs(done: Sequence[Done], out: Path) -> dict[str, Run]:
    keys = [entry.job.key for entry in done if entry.ended.code == 0]
    found, _ = open_runs([out / key / "result" for key in keys])
    return {
        key: Run(key.rpartition("/")[2], run.report, run.plan, run.home) for key, run in zip(keys, found, strict=True)
    }


def _entry(entry: Done, run: Run | None) -> dict[str, object]:
    accuracy = None if run is None else run.report.accuracy
    return {
        "model": entry.job.model,
        "target": entry.job.target,
        "budget": entry.job.budget,
        "folder": f"{entry.job.key}/result" if run is not None else None,
        "code": entry.ended.code,
        "reason": entry.ended.sentence,
        "latency_ms": None if run is None else latency_ms(run),
        "measured": run is not None and run.report.latency is not None,
        "drop": None if accuracy is None else accuracy.drop,
    }
