"""Several runs: their reports, whether they can be compared, and one line of figures for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.report import figures
from edgeprune.report.model import Report
from edgeprune.report.output_files import read_plan
from edgeprune.report.pareto_curve import PARETO_FILE, Curve
from edgeprune.report.rival import Rival, wins_first
from edgeprune.report.tradeoff import ORIGINAL, Reached, reached, reached_by


@dataclass(frozen=True)
class Run:
    """One output folder: its name here, its report, the content of its plan.json (may be empty), and its path."""

    name: str
    report: Report
    plan: Mapping[str, Any]
    home: Path = Path()


@dataclass(frozen=True)
class Missed:
    """A point of a curve that was not reached, and why."""

    name: str
    reason: str


def open_runs(folders: Sequence[Path]) -> tuple[list[Run], list[Missed]]:
    """The runs in folders; a folder of ``compile --pareto`` gives all its points.

    Raises:
        UsageError: a report is missing or cannot be read; the text names the file.
    """
    found: list[Path] = []
    missed = []
    for folder in folders:
        if not (folder / PARETO_FILE).is_file():
            found.append(folder)
            continue
        for point in Curve.load(folder).points:
            if point.folder is None:
                missed.append(Missed(f"{point.asked:g}x", point.reason))
            else:
                found.append(folder / point.folder)
    names = _names(found)
    homes = [folder if folder.is_dir() else folder.parent for folder in found]
    runs = [Run(n, Report.load(f), read_plan(h), h) for n, f, h in zip(names, found, homes, strict=True)]
    return runs, missed


def siblings(home: Path) -> list[Reached]:
    """The other points of the curve that an output folder belongs to; none if it belongs to no curve.

    Raises:
        UsageError: the pareto.json above it cannot be read.
    """
    if not (home.absolute().parent / PARETO_FILE).is_file():
        return []
    points = Curve.load(home.absolute().parent).points
    if home.absolute().name not in {p.folder for p in points}:
        return []
    return [
        Reached(f"{p.asked:g}x", p.latency_ms, p.latency_ms, p.latency_ms, p.accuracy.after)
        for p in points
        if p.latency_ms is not None and p.accuracy is not None and p.folder != home.absolute().name
    ]


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest names that differ: the last part of each path, or as many parts as needed."""
    whole = [folder.absolute().parts for folder in folders]
    for length in range(1, max(map(len, whole), default=0) + 1):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [f"{folder} ({k})" for k, folder in enumerate(folders, 1)]


HEADER = ("run", "target", "result", "latency (95% interval)", "speed", "accuracy", "MACs", "file")


def line(run: Run) -> tuple[str, ...]:
    """The figures of one run, in the order of `HEADER`."""
    report = run.report
    latency = speed = scored = "not measured"
    if report.latency is not None:
        latency = figures.latency(report.latency.result)
        faster = report.latency.speedup
        speed = f"{faster.value:.2f}x ({faster.ci_low:.2f} to {faster.ci_high:.2f})"
    elif (guess := report.predicted) is not None:
        error = "" if guess.error is None else f", error {guess.error:.0%}"
        latency = f"{guess.result_ms:.4g} ms predicted{error}"
        speed = f"{guess.speedup:.2f}x predicted"
    if (accuracy := report.accuracy) is not None:
        scored = f"{figures.score(accuracy, accuracy.after)} ({figures.change_of(accuracy)})"
    macs, file_size = figures.count(report.sizes.result.macs), figures.file_size(report.sizes.result.file_bytes)
    return run.name, report.target, figures.variant(report.outcome), latency, speed, scored, macs, file_size


def differences(runs: Sequence[Run]) -> list[str]:
    """Why some figures of these runs must not be compared, in sentences."""
    found = []
    for what, values in (
        ("models", {r.report.model.sha256: r.report.model.file for r in runs}),
        ("targets", {r.report.target: r.report.target for r in runs}),
        ("machines", {m.device: m.device for r in runs if (m := r.report.latency)}),
        ("runtimes", {m.runtime: m.runtime for r in runs if (m := r.report.latency)}),
        ("numbers of threads", {str(m.threads): str(m.threads) for r in runs if (m := r.report.latency)}),
        ("measures of accuracy", {kind: kind for r in runs if (kind := _measure(r.report))}),
    ):
        if len(values) > 1:
            found.append(f"The runs are of different {what}: {', '.join(sorted(set(values.values())))}.")
    timed = sum(r.report.latency is not None for r in runs)
    if 0 < timed < len(runs):
        found.append("Some latencies are measured and others predicted.")
    if timed > 1:
        found.append("The latencies come from separate runs; only latencies of one run were measured in turns.")
    return found


def comparable(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs for each chart: those of one target and one measure of accuracy, the most common first."""
    kinds = Counter((r.report.target, _measure(r.report)) for r in runs if r.report.accuracy)
    return [[r for r in runs if (r.report.target, _measure(r.report)) == kind] for kind, _ in kinds.most_common()]


def points(runs: Sequence[Run]) -> list[Reached]:
    """The result of every run, one original for each model and device, and the rivals."""
    found: dict[tuple[str, str], Reached] = {}
    results = []
    for run in runs:
        for point in reached(run.report, run.name):
            if point.strong:
                results.append(point)
            elif point.name == ORIGINAL:
                measured = run.report.latency
                found.setdefault((run.report.model.sha256, measured.device if measured else run.report.target), point)
    return [*found.values(), *map(reached_by, rivals(runs)), *results]


def rivals(runs: Sequence[Run]) -> list[Rival]:
    """The rivals of these runs, each once."""
    known = [run.report.rival for run in runs if run.report.rival is not None]
    return list({(rival.sha256, rival.measured): rival for rival in known}.values())


def _measure(report: Report) -> str:
    return "" if report.accuracy is None else report.accuracy.measure


def against_rivals(runs: Sequence[Run]) -> list[str]:
    """Every run with a rival against it, in sentences; first those that lose."""
    compared = []
    for run in runs:
        report, rival = run.report, run.report.rival
        point = next((point for point in reached(report) if point.strong), None)
        if rival is not None and point is not None:
            compared.append((rival, point.latency_ms, report.accuracy, run.name))
    return [f"{text}." for text in wins_first(compared)]
