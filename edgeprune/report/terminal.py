"""A report as a short summary on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from edgeprune.report import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from edgeprune.report.model import Report
    from edgeprune.timing import Measurement, Ratio


def print_report(console: Console, report: Report) -> None:
    """Print what was reached, before and after, and what to know about it."""
    console.print(words.headline(report), markup=False, style="bold")
    console.print(report.outcome.reason, markup=False)
    table = Table("", "before", "after", "change", box=None, pad_edge=False)
    for row in words.comparison(report):
        table.add_row(row.what, row.before, row.after, row.change)
    console.print(table)
    for text in report.warnings:
        console.print(f"note: {text}", markup=False, style="yellow")


def print_reasons(console: Console, report: Report) -> None:
    """Print what was left whole and why, and how to have the same result again."""
    for refusal in report.refused:
        where = f" (at {', '.join(refusal.nodes)})" if refusal.nodes else ""
        console.print(
            f"left whole: {words.plural(refusal.axes, 'axis', 'axes')}: {refusal.reason}{where}", markup=False
        )
    for name, text in words.conditions(report):
        console.print(f"{name}: {text}", markup=False)
    if report.reproduce is not None:
        console.print(f"again: {report.reproduce}", markup=False, soft_wrap=True)


def print_measurements(console: Console, measured: Mapping[str, Measurement], faster: Ratio | None) -> None:
    """Print what ``edgeprune bench`` measured; ``faster`` compares the second model with the first."""
    table = Table(box=None, pad_edge=False)
    table.add_column("model", overflow="fold")
    for heading in ("median", "95% interval", "95th percentile", "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, m in measured.items():
        interval = f"{m.ci_low_ms:.4g} to {m.ci_high_ms:.4g} ms"
        table.add_row(name, f"{m.median_ms:.4g} ms", interval, f"{m.p95_ms:.4g} ms", str(m.runs))
    console.print(table)
    if faster is not None:
        first, second = measured
        interval = f"{faster.ci_low:.3f} to {faster.ci_high:.3f}"
        console.print(f"{second} is {faster.value:.3f}x as fast as {first} (95% interval {interval})", markup=False)
