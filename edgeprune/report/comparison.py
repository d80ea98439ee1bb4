"""A comparison of several runs: as a web page, as a table on the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

from edgeprune.report.charts import medians, medians_text
from edgeprune.report.markdown import markdown_table
from edgeprune.report.runs import HEADER, Missed, Run, against_rivals, comparable, differences, line, points
from edgeprune.report.sentence import sentence
from edgeprune.report.terminal import print_notes, print_table
from edgeprune.report.tradeoff import frontier, tradeoff_chart
from edgeprune.report.web_page import Chart, Section, bar, folded, number, page, table
from edgeprune.support import plural

if TYPE_CHECKING:
    from rich.console import Console


def lead(runs: Sequence[Run], missed: Sequence[Missed]) -> str:
    """One sentence: how many runs, which is the fastest, and which no other beats."""
    said = plural(len(runs), "run")
    if missed:
        said += f", and {plural(len(missed), 'point')} that could not be reached"
    results = [p for p in points(runs) if p.strong]
    if results and len({run.report.target for run in runs}) == 1:
        fastest = min(results, key=lambda p: p.latency_ms)
        said += f"; the fastest is {fastest.name} with {fastest.latency_ms:.3g} ms"
        said += "" if fastest.measured else " (predicted)"
    same = next(iter(comparable(runs)), [])
    if len(same) < 2:
        return f"{said}."
    best = [p.name for p in frontier(points(same))]
    if len(same) < len(runs):
        said += f"; of the {len(same)} that can be compared"
        return f"{said}, no other beats {' or '.join(best)} in both speed and accuracy."
    return f"{said}; no other beats {' or '.join(best)} in both speed and accuracy." if best else f"{said}."


def comparison_html(runs: Sequence[Run], missed: Sequence[Missed] = ()) -> str:
    """A web page that compares several runs."""
    title = f"edgeprune: {plural(len(runs), 'run')} compared"
    notes = "".join(f"<li>{escape(text)}</li>" for text in (*against_rivals(runs), *differences(runs)))
    top = f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead(runs, missed))}</p>\n'
    top += f'<ul class="notes">{notes}</ul>' if notes else ""
    rows = [[escape(cell) for cell in line(run)] for run in runs]
    sections = [
        Section("Side by side", table(HEADER, rows, "Runs side by side", sortable=True)),
        Section("Speed against accuracy", "", tradeoffs(runs)),
        Section("Latency", "", _latency(runs)),
        _widths(runs),
        Section("Not reached", "".join(f"<p>{escape(m.name)}: {escape(m.reason)}</p>" for m in missed)),
        Section("What was asked", "".join(_asked(run) for run in runs)),
    ]
    return page(title, top, [s for s in sections if s.body or s.charts])


def comparison_markdown(runs: Sequence[Run], missed: Sequence[Missed] = ()) -> str:
    """The table and the notes as GitHub-flavoured Markdown."""
    rows = markdown_table(HEADER, [line(run) for run in runs])
    notes = [f"- {note}" for note in _notes(runs, missed)]
    return "\n".join(["## edgeprune: runs compared", "", lead(runs, missed), "", *rows, *notes, ""])


def print_comparison(console: Console, runs: Sequence[Run], missed: Sequence[Missed] = ()) -> None:
    """Print a table with one row for each run, and the notes."""
    console.print(lead(runs, missed), markup=False, style="bold")
    print_table(console, HEADER, [line(run) for run in runs])
    print_notes(console, _notes(runs, missed))


def _notes(runs: Sequence[Run], missed: Sequence[Missed]) -> list[str]:
    return [*against_rivals(runs), *differences(runs), *(f"{m.name} was not reached: {m.reason}" for m in missed)]


def tradeoffs(runs: Sequence[Run], name: str = "chart-tradeoff") -> tuple[Chart, ...]:
    """One chart for each target and measure of accuracy; ``name`` begins the id of each."""
    groups = comparable(runs)
    return tuple(
        replace(chart, caption=f"{same[0].report.target}: {chart.caption}" if len(groups) > 1 else chart.caption)
        for number, same in enumerate(groups)
        for chart in tradeoff_chart(points(same), same[0].report.accuracy, f"{name}-{number}".removesuffix("-0"))
    )


def _latency(runs: Sequence[Run]) -> tuple[Chart, ...]:
    timed = {run.name: run.report.latency.result for run in runs if run.report.latency is not None}
    if not timed:
        return ()
    fastest = min(timed, key=lambda name: timed[name].median_ms)
    caption = "Median latency of every result with its 95% interval, as measured in its own run."
    return (Chart("chart-latency", caption, medians_text(timed), medians(timed, fastest)),)


def _widths(runs: Sequence[Run]) -> Section:
    """The units that every group keeps in every run; empty if the runs are of different models."""
    kept = [{g["id"]: len(g["kept"]) for g in run.plan.get("groups", [])} for run in runs]
    sizes = {g["id"]: g["size"] for run in runs for g in run.plan.get("groups", [])}
    if len({run.report.model.sha256 for run in runs}) > 1 or not sizes:
        return Section("Widths", "")
    rows = [
        [
            f"<code>{escape(name)}</code>",
            number(str(size), size),
            *(number(str(k[name]), k[name]) + bar(k[name] / max(size, 1)) if name in k else "" for k in kept),
        ]
        for name, size in sizes.items()
    ]
    whole = table(("group", "units", *(run.name for run in runs)), rows, "Units kept", sortable=True)
    return Section("Widths", folded(f"what every run keeps of {plural(len(rows), 'group')}", whole))


def _asked(run: Run) -> str:
    return f"<p><b>{escape(run.name)}</b>: {escape(sentence(run.report))}</p>"
