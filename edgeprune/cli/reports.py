"""Commands on reports of earlier runs: gate and report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE
from edgeprune.cli.quantity import MEGABYTES, MILLIJOULES, MILLISECONDS, POINTS, parse_fraction
from edgeprune.cli.support import Verbosity
from edgeprune.errors import UsageError

GATE_FAILED = 1
UNRELIABLE = 6


@click.command()
@click.argument("report", type=FILE)
@click.option("--max-latency-ms", type=MILLISECONDS, metavar="X", help="Largest median latency of the result.")
@click.option(
    "--p99", "max_p99_ms", type=MILLISECONDS, metavar="X", help="Largest 99th percentile of single runs of the result."
)
@click.option(
    "--max-predicted-ms",
    type=MILLISECONDS,
    metavar="X",
    help="Largest predicted latency, for a device that is not attached.",
)
@click.option("--max-drop", type=POINTS, metavar="D", help="Largest drop in accuracy, in points.")
@click.option(
    "--max-memory-mb",
    type=MEGABYTES,
    metavar="X",
    help="Largest memory of weights and activations: measured on a device, else counted.",
)
@click.option(
    "--max-energy-mj",
    type=MILLIJOULES,
    metavar="X",
    help="Largest energy of an inference: measured on a device with sensors; else predicted from published power; else "
    "the watts of the power mode times the predicted latency.",
)
@click.option(
    "--outputs",
    metavar="NAME,...",
    help="Outputs of the model whose drop counts [default: those that counted].",
)
@click.option(
    "--baseline",
    type=FILE,
    metavar="PATH",
    help="An older report to compare the latency with, or a folder of them, kept as MODEL.TARGET.json.",
)
@click.option("--update-baseline", is_flag=True, help="Keep REPORT as the new --baseline, if it passes.")
@click.option(
    "--accept-disturbed", is_flag=True, help="With --update-baseline: keep a measurement on a disturbed machine too."
)
@click.option(
    "--max-regression",
    metavar="5%",
    callback=parse_fraction,
    help="Largest growth of the latency since the baseline [5%].",
)
@click.option(
    "--noise",
    "session_noise",
    metavar="1%",
    default="1%",
    callback=parse_fraction,
    help="How much latency varies between runs.",
)
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Measure original and result again, in new processes, until REPORT (a folder) has N runs; they stay in it.",
)
@options.devices_option
@options.builds_option
@options.timing_cache_option
@click.option("--markdown", type=FILE, metavar="FILE", help="Write the summary as Markdown.")
@click.option("--junit", type=FILE, metavar="FILE", help="Write the summary as JUnit XML.")
@click.option("--github", is_flag=True, help="In a GitHub job: annotations, the job's summary, and the step's outputs.")
@click.option("--require-reliable", is_flag=True, help="Return exit code 6 if a check is unreliable.")
@options.json_option
@support.verbosity_options
def gate(
    report: Path,
    baseline: Path | None,
    update_baseline: bool,
    accept_disturbed: bool,
    max_regression: float | None,
    outputs: str | None,
    runs: int | None,
    device: str | tuple[str, ...] | None,
    builds: int,
    timing_cache: Path | None,
    markdown: Path | None,
    junit: Path | None,
    github: bool,
    require_reliable: bool,
    as_json: bool,
    verbosity: Verbosity,
    **limits: Any,
) -> int:
    """Check REPORT (a report.json or its folder) against limits: exit code 0 if it keeps them, 1 if it fails one.

    A check is unreliable if a disturbance of the machine, such as a throttled clock, may explain why the latency is
    beyond its limit: exit code 0, or 6 with --require-reliable. A larger excess fails. A measurement on a disturbed
    machine is not kept as a baseline: exit code 6.

    With --device and a target with TensorRT the engine in REPORT's folder is run there, on the samples that compile
    held out: it must compute what its graph says, and --max-drop holds for it too. With --runs as well, engines are
    built and timed there.
    """
    from edgeprune.gate import DEFAULT_REGRESSION, find_baseline, keep_baseline, why_no_baseline
    from edgeprune.gate import gate as check_limits
    from edgeprune.report import Report
    from edgeprune.support import write_text

    found = Report.load(report)
    if update_baseline and baseline is None:
        raise UsageError("--update-baseline needs --baseline, the place to keep it")
    if accept_disturbed and not update_baseline:
        raise UsageError("--accept-disturbed needs --update-baseline")
    if (builds > 1 or timing_cache is not None) and runs is None:
        raise UsageError("--builds and --timing-cache are for engines that are measured again: give --runs")
    if isinstance(device, tuple) and runs is None:
        raise UsageError("several boards are measured again: give --runs with them")
    if device is not None:
        from edgeprune.cli.judge_again import has_engines, judge_again

        if has_engines(found):
            found = judge_again(report, found, device, timing_cache, verbosity.progress())
        elif runs is None:
            raise UsageError("--device runs an engine of TensorRT; a report for a CPU is measured there: give --runs")
    if runs is not None:
        from edgeprune.cli.measure_again import Measuring, measure_again

        places = () if device is None else (device,) if isinstance(device, str) else device
        how = Measuring(places, builds, timing_cache)
        with verbosity.progress().step("measuring", runs) as step:
            found = measure_again(report, found, runs, step.advance, how)
    older = None if baseline is None else find_baseline(baseline, found, missing_ok=update_baseline)
    if baseline is not None:
        max_regression = None if older is None else DEFAULT_REGRESSION if max_regression is None else max_regression
    limits["outputs"] = tuple(name.strip() for name in (outputs or "").split(",") if name.strip())
    result = check_limits(found, baseline=older, max_regression=max_regression, anything=update_baseline, **limits)
    if markdown is not None:
        write_text(markdown, result.to_markdown())
    if junit is not None:
        write_text(junit, result.to_junit())
    if as_json:
        support.print_json(result.to_json())
    elif not verbosity.quiet:
        for check in result.checks:
            click.echo(str(check))
        for note in result.notes:
            click.echo(f"note: {note}")
    if github:
        from edgeprune.gate import report_to_job

        report_to_job(result, found)
    refused = None
    if update_baseline and baseline is not None and result.verdict == "passed":
        refused = None if accept_disturbed else why_no_baseline(found)
        if refused is None:
            click.echo(f"baseline kept in {keep_baseline(baseline, found)}", err=True)
        else:
            again = "measure again, for example with --runs 3, or add --accept-disturbed"
            click.echo(f"not kept as a baseline: {refused}: {again}", err=True)
    if not result.passed:
        return GATE_FAILED
    unreliable = require_reliable and result.verdict == "unreliable"
    return UNRELIABLE if unreliable or refused is not None else 0


@click.command("report")
@click.argument("folders", type=FILE, metavar="DIR ...", nargs=-1, required=True)
@click.option("--markdown", type=FILE, metavar="FILE", help="Also write it as Markdown.")
@click.option("--html", type=FILE, metavar="FILE", help="Also write it as a self-contained web page.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the report, or a list of them.")
@support.verbosity_options
def report(
    folders: tuple[Path, ...], markdown: Path | None, html: Path | None, as_json: bool, verbosity: Verbosity
) -> None:
    """Show the report in DIR, a folder of compile or prune, or compare several; a curve counts as all its points."""
    from edgeprune.report import open_runs, siblings
    from edgeprune.support import write_text

    runs, missed = open_runs(folders)
    if len(runs) == 1 and not missed:
        from edgeprune.dependency import picture_of
        from edgeprune.report import print_report, to_html, to_markdown

        (run,) = runs
        if markdown is not None:
            write_text(markdown, to_markdown(run.report))
        if html is not None:
            write_text(html, to_html(run.report, run.plan, picture_of(run.home), siblings(run.home)))
        if not (as_json or verbosity.quiet):
            print_report(support.output_console(), run.report, reasons=verbosity.verbose)
    else:
        from edgeprune.report import comparison_html, comparison_markdown, print_comparison

        if markdown is not None:
            write_text(markdown, comparison_markdown(runs, missed))
        if html is not None:
            write_text(html, comparison_html(runs, missed))
        if not (as_json or verbosity.quiet):
            print_comparison(support.output_console(), runs, missed)
    if as_json:
        texts = [run.report.to_json() for run in runs]
        click.echo(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]", nl=False)
