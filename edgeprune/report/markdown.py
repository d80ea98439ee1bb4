"""A report as Markdown, for a pull request or a job's summary."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeprune.report import words
from edgeprune.report.model import Report
from edgeprune.report.sentence import sentence


def to_markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown."""
    lines = [f"## edgeprune: {words.headline(report)}", "", sentence(report), "", report.outcome.reason, ""]
    rows = [(row.what, row.before, row.after, row.change) for row in words.comparison(report)]
    lines += _table(("", "before", "after", "change"), rows)
    if report.latency is not None and report.latency.variants:
        lines += ["### Unpruned alternatives, measured in the same run", ""]
        variants = [(name, words.latency(measured)) for name, measured in report.latency.variants.items()]
        lines += _table(("variant", "latency, median (95% interval)"), variants)
    if report.warnings:
        lines += ["### Warnings", "", *(f"- {text}" for text in report.warnings), ""]
    if report.refused:
        lines += ["### Left whole", ""]
        refused = [(r.reason, str(r.axes), ", ".join(r.nodes)) for r in report.refused]
        lines += _table(("reason", "axes", "nodes"), refused)
    lines += ["### Conditions", "", *(f"- {name}: {text}" for name, text in words.conditions(report)), ""]
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [header, ["---"] * len(header), *([text.replace("|", "\\|") for text in row] for row in rows)]
    return [*(f"| {' | '.join(row)} |" for row in cells), ""]
