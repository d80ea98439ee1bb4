"""The command that runs many compiles from one file."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli import support
from edgeprune.cli.options import FILE
from edgeprune.cli.recipe import flags_of
from edgeprune.cli.support import Verbosity


@click.command()
@click.argument("grid", type=FILE)
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Folder of all results [default: named after GRID].")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Compiles at a time on this machine [default: as many as its memory and cores allow].",
)
@click.option(
    "--scheduler", metavar="ADDRESS", help="Run on a Dask cluster instead, such as tcp://head:8786; DIR must be shared."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the content of sweep.json.")
@support.verbosity_options
@click.pass_context
def sweep(
    context: click.Context,
    grid: Path,
    out: Path | None,
    workers: int | None,
    scheduler: str | None,
    as_json: bool,
    verbosity: Verbosity,
) -> None:
    """Compile models x targets x budgets of GRID, a TOML file; run it again to continue.

    GRID has lists `models`, `targets` and `speedup`, `latency-ms` or `max-drop`, and any flag of `compile`. Every
    compile has its own folder in DIR. DIR/sweep.html has a curve for each model and the best result for each device. A
    compile that measures on a machine is alone there.
    """
    from edgeprune.report import print_table
    from edgeprune.sweep import BEST_HEADER, PAGE, SUMMARY, best_rows, read_grid, run_sweep

    group = context.find_root().command
    assert isinstance(group, click.Group)
    found = read_grid(grid, flags_of(group.commands["compile"]))
    out = out or Path(f"{grid.stem}.sweep")
    done = run_sweep(found, out, workers=workers, scheduler=scheduler, progress=verbosity.progress())
    if as_json:
        click.echo((out / SUMMARY).read_text(encoding="utf-8"), nl=False)
    else:
        console = support.output_console()
        print_table(console, BEST_HEADER, best_rows(done.done, out))
        for entry in done.done:
            if entry.ended.code:
                console.print(f"{entry.job.key}: {entry.ended.sentence}", markup=False, style="yellow")
        click.echo(f"written to {out / PAGE}")
    done.raise_failures()
