"""Several runs as one web page, one table on the terminal, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from edgeprune.report import words
from edgeprune.report.charts import medians
from edgeprune.report.runs import HEADER, Missed, Run, alike, differences, line, points
from edgeprune.report.sentence import sentence
from edgeprune.report.tradeoff import frontier, tradeoff_chart
from edgeprune.report.web_page import Chart, Section, bar, folded, number, page, table

if TYPE_CHECKING:
    from rich.console import Console


def lead(runs: Sequence[Run], missed: Sequence[Missed]) -> str:
    """One sentence: how many, which of them is fastest, and which nothing beats."""
    said = words.plural(len(runs), "run")
    if missed:
        said += f", and {words.plural(len(missed), 'point')} that could not be reached"
    results = [p for p in points(runs) if p.strong]
    if results and len({run.report.target for run in runs}) == 1:
        fastest = min(results, key=lambda p: p.latency_ms)
        said += f"; the fastest is {fastest.name} with {fastest.latency_ms:.3g} ms"
        said += "" if fastest.measured else " (predicted)"
    same = alike(runs)
    if len(same) < 2:
        return f"{said}."
    best = [p.name for p in frontier(points(same))]
    if len(same) < len(runs):
        said += f"; of the {len(same)} that can be held against each other"
        return f"{said}, no other beats {' or '.join(best)} in both speed and accuracy."
    return f"{said}; no other beats {' or '.join(best)} in both speed and accuracy." if best else f"{said}."


def comparison_html(runs: Sequence[Run], missed: Sequence[Missed] = ()) -> str:
    """A page on several runs."""
    title = f"edgeprune: {words.plural(len(runs), 'run')} compared"
    notes = "".join(f"<li>{escape(text)}</li>" for text in differences(runs))
    top = f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead(runs, missed))}</p>\n'
    top += f'<ul class="notes">{notes}</ul>' if notes else ""
    rows = [[escape(cell) for cell in line(run)] for run in runs]
    sections = [
        Section("Side by side", table(HEADER, rows, "Runs side by side", sortable=True)),
        Section("Speed against accuracy", "", _tradeoff(runs)),
        Section("Latency", "", _latency(runs)),
        _widths(runs),
        Section("Not reached", "".join(f"<p>{escape(m.name)}: {escape(m.reason)}</p>" for m in missed)),
        Section("What was asked", "".join(_asked(run) for run in runs)),
    ]
    return page(title, top, [s for s in sections if s.body or s.charts])


def to_markdown(runs: Sequence[Run], missed: Sequence[Missed] = ()) -> str:
    """The table and the notes as GitHub-flavoured Markdown."""
    cells = [HEADER, ["---"] * len(HEADER), *(line(run) for run in runs)]
    rows = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in cells]
    notes = [*differences(runs), *(f"{m.name} was not reached: {m.reason}" for m in missed)]
    return "\n".join(
        ["## edgeprune: runs compared", "", lead(runs, missed), "", *rows, "", *(f"- {n}" for n in notes), ""]
    )


def print_runs(console: Console, runs: Sequence[Run], missed: Sequence[Missed] = ()) -> None:
    """Print one line a run."""
    from rich.table import Table

    console.print(lead(runs, missed), markup=False, style="bold")
    shown = Table(*HEADER, box=None, pad_edge=False)
    for run in runs:
        shown.add_row(*line(run))
    console.print(shown)
    for note in [*differences(runs), *(f"{m.name} was not reached: {m.reason}" for m in missed)]:
        console.print(f"note: {note}", markup=False, style="yellow")


def _tradeoff(runs: Sequence[Run]) -> tuple[Chart, ...]:
    """Runs of one target that were scored in the same way."""
    same = alike(runs)
    judged = same[0].report.accuracy if same else None
    return () if judged is None else tradeoff_chart(points(same), judged.metric, judged.unit)


def _latency(runs: Sequence[Run]) -> tuple[Chart, ...]:
    timed = {run.name: run.report.latency.result for run in runs if run.report.latency is not None}
    if not timed:
        return ()
    fastest = min(timed, key=lambda name: timed[name].median_ms)
    said = "; ".join(f"{name} {words.latency(m)}" for name, m in timed.items())
    caption = "Median latency of every result with its 95% interval, as measured in its own run."
    return (Chart("chart-latency", caption, f"Bars: {said}.", medians(timed, fastest)),)


def _widths(runs: Sequence[Run]) -> Section:
    """What every group keeps in every run, where the runs are of one model."""
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
    return Section("Widths", folded(f"what every run keeps of {words.plural(len(rows), 'group')}", whole))


def _asked(run: Run) -> str:
    return f"<p><b>{escape(run.name)}</b>: {escape(sentence(run.report))}</p>"
