"""Commands on what was measured before: gate and report."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune import cli_options as options
from edgeprune import cli_support as support
from edgeprune.cli_options import FILE, POSITIVE
from edgeprune.cli_support import Shown


@click.command()
@click.argument("report", type=FILE)
@click.option("--max-latency-ms", type=POSITIVE, metavar="X", help="Largest median latency of the result.")
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="D", help="Largest drop in accuracy, in points.")
@click.option("--baseline", type=FILE, metavar="REPORT", help="An older report to compare the latency with.")
@click.option("--max-regression", metavar="5%", callback=options.parse_fraction, help="Largest growth since then [5%].")
@click.option(
    "--noise", metavar="1%", default="1%", callback=options.parse_fraction, help="How much latency varies between runs."
)
@click.option("--markdown", type=FILE, metavar="FILE", help="Write the summary as Markdown.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write it as JUnit XML.")
@support.say_how_much
def gate(
    report: Path,
    max_latency_ms: float | None,
    max_drop: float | None,
    baseline: Path | None,
    max_regression: float | None,
    noise: float,
    markdown: Path | None,
    junit: Path | None,
    shown: Shown,
) -> int:
    """Hold REPORT (a report.json or its folder) against limits: exit code 0 if it keeps them, 1 if it surely fails."""
    from edgeprune.gate import DEFAULT_REGRESSION
    from edgeprune.gate import gate as judge
    from edgeprune.output import write_text
    from edgeprune.report.model import Report

    if baseline is not None and max_regression is None:
        max_regression = DEFAULT_REGRESSION
    result = judge(
        Report.load(report),
        max_latency_ms=max_latency_ms,
        max_drop=max_drop,
        baseline=None if baseline is None else Report.load(baseline),
        max_regression=max_regression,
        session_noise=noise,
    )
    if markdown is not None:
        write_text(markdown, result.to_markdown())
    if junit is not None:
        write_text(junit, result.to_junit())
    if not shown.quiet:
        for check in result.checks:
            click.echo(f"{check.verdict:6} {check.name} {check.value}, limit {check.limit}: {check.detail}")
    return 0 if result.passed else 1


@click.command("report")
@click.argument("folders", type=FILE, metavar="DIR ...", nargs=-1, required=True)
@click.option("--markdown", type=FILE, metavar="FILE", help="Also write it as Markdown.")
@click.option("--html", type=FILE, metavar="FILE", help="Also write it as a web page that needs nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the report, or a list of them.")
@support.say_how_much
def report(folders: tuple[Path, ...], markdown: Path | None, html: Path | None, as_json: bool, shown: Shown) -> None:
    """Show the report in DIR, which compile or prune wrote, or compare several; a curve counts as all its points."""
    from edgeprune.output import write_text
    from edgeprune.report.runs import open_runs

    runs, missed = open_runs(folders)
    if len(runs) == 1 and not missed:
        from edgeprune.drawing import picture_of
        from edgeprune.report.html import to_html
        from edgeprune.report.markdown import to_markdown
        from edgeprune.report.terminal import print_report

        (run,) = runs
        if markdown is not None:
            write_text(markdown, to_markdown(run.report))
        if html is not None:
            write_text(html, to_html(run.report, run.plan, picture_of(run.home)))
        if not (as_json or shown.quiet):
            print_report(support.output_console(), run.report)
    else:
        from edgeprune.report import compare

        if markdown is not None:
            write_text(markdown, compare.to_markdown(runs, missed))
        if html is not None:
            write_text(html, compare.to_html(runs, missed))
        if not (as_json or shown.quiet):
            compare.print_runs(support.output_console(), runs, missed)
    if as_json:
        texts = [run.report.to_json() for run in runs]
        click.echo(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]", nl=False)
