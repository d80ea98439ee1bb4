"""A report as a short summary on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from edgeprune.report import figures
from edgeprune.report.loss_part import HEADER as LOSS_HEADER
from edgeprune.report.loss_part import rows as loss_rows
from edgeprune.support import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rich.console import Console

    from edgeprune.report.model import Report
    from edgeprune.timing import Measurement, Ratio


def print_report(console: Console, report: Report, *, reasons: bool = False) -> None:
    """Print the result, before and after, and the warnings; with ``reasons`` also what was left whole and why."""
    console.print(figures.headline(report), markup=False, style="bold")
    console.print(report.outcome.reason, markup=False)
    print_table(console, figures.COMPARISON_HEADER, figures.comparison(report))
    evaluated = report.accuracy is not None and report.accuracy.kind == "evaluation"
    if len(rows := figures.outputs(report)) > 1 or (rows and (reasons or evaluated)):
        print_table(console, figures.OUTPUTS_HEADER, rows)
    if parts := loss_rows(report.losses):
        print_table(console, LOSS_HEADER, parts)
    print_notes(console, report.warnings)
    if reasons:
        _print_reasons(console, report)


def print_table(
    console: Console, header: Sequence[str], rows: Iterable[Sequence[str]], *, align_right: bool = False
) -> None:
    """Print a table without lines; ``align_right`` aligns the figures in all columns but the first."""
    table = Table(*header, box=None, pad_edge=False)
    if align_right:
        table.columns[0].overflow = "fold"
        for column in table.columns[1:]:
            column.justify, column.no_wrap = "right", True
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_notes(console: Console, notes: Iterable[str]) -> None:
    """Print sentences that the user should know."""
    for text in notes:
        console.print(f"note: {text}", markup=False, style="yellow")


def _print_reasons(console: Console, report: Report) -> None:
    for refusal in report.refused:
        where = f" (at {', '.join(refusal.nodes)})" if refusal.nodes else ""
        axes = plural(refusal.axes, "axis", "axes")
        console.print(f"left whole: {axes}: {refusal.reason}{where}", markup=False)
    for name, text in figures.conditions(report):
        console.print(f"{name}: {text}", markup=False)
    if report.reproduce is not None:
        console.print(f"again: {report.reproduce}", markup=False, soft_wrap=True)


def print_measurements(console: Console, measured: Mapping[str, Measurement], faster: Ratio | None) -> None:
    """Print the result of ``edgeprune bench``; ``faster`` compares the second model with the first."""
    rows = []
    for name, m in measured.items():
        interval = f"{m.ci_low_ms:.4g} to {m.ci_high_ms:.4g} ms"
        rows.append((name, f"{m.median_ms:.4g} ms", interval, f"{m.p95_ms:.4g} ms", str(m.runs)))
    print_table(console, ("model", "median", "95% interval", "95th percentile", "runs"), rows, align_right=True)
    if faster is not None:
        first, second = measured
        interval = f"{faster.ci_low:.3f} to {faster.ci_high:.3f}"
        console.print(f"{second} is {faster.value:.3f}x as fast as {first} (95% interval {interval})", markup=False)
