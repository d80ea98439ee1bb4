"""A report as Markdown, for a pull request or a CI job's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeprune.report import figures
from edgeprune.report.model import Report
from edgeprune.report.sentence import sentence


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    lines = [f"## edgeprune: {figures.headline(report)}", "", sentence(report), "", report.outcome.reason, ""]
    lines += markdown_table(figures.COMPARISON_HEADER, figures.comparison(report))
    if report.latency is not None and report.latency.variants:
        lines += ["### Unpruned alternatives, measured in the same run", ""]
        variants = [(name, figures.latency(measured)) for name, measured in report.latency.variants.items()]
        lines += markdown_table(("variant", "latency, median (95% interval)"), variants)
    if rows := figures.outputs(report):
        lines += ["### Outputs", "", *markdown_table(figures.OUTPUTS_HEADER, rows)]
    if report.warnings:
        lines += ["### Warnings", "", *(f"- {text}" for text in report.warnings), ""]
    if report.refused:
        lines += ["### Left whole", ""]
        refused = [(r.reason, str(r.axes), ", ".join(r.nodes)) for r in report.refused]
        lines += markdown_table(("reason", "axes", "nodes"), refused)
    lines += ["### Conditions", "", *(f"- {name}: {text}" for name, text in figures.conditions(report)), ""]
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table, and an empty line after it."""
    cells = [header, ["---"] * len(header), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]
