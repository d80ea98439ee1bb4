"""Commands on single models that write none: inspect and bench."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, POSITIVE, Shapes
from edgeprune.cli.support import Shown


@click.command()
@options.model_argument
@click.option(
    "--why", metavar="TENSOR", help="Say for each axis of one tensor what cuts it, or what stands in the way."
)
@options.shape_option
@options.statistic_option
@click.option("--dot", type=FILE, metavar="FILE", help="Also draw the groups over the graph, as Graphviz text.")
@click.option("--html", type=FILE, metavar="FILE", help="Also draw them as a web page that needs nothing else.")
@options.json_option
@support.say_how_much
def inspect(
    model: Path,
    why: str | None,
    shapes: Shapes,
    allow_statistic: bool,
    dot: Path | None,
    html: Path | None,
    as_json: bool,
    shown: Shown,
) -> None:
    """Show what can be removed from MODEL, and what can not and why, without running it."""
    from edgeprune.dependency import inspect_model
    from edgeprune.support import write_text

    found = inspect_model(model, shapes=shapes, allow_statistic=allow_statistic)
    if dot is not None:
        from edgeprune.dependency import to_dot

        write_text(dot, to_dot(found.analysis))
    if html is not None:
        from edgeprune.dependency import drawing_html

        write_text(html, drawing_html(found))
    if why is not None:
        lines = found.why(why)
        if as_json:
            support.print_json({"tensor": why, "axes": lines})
        else:
            click.echo("\n".join(lines))
    elif as_json:
        support.print_json(found.to_dict())
    else:
        support.output_console().print(*found.render(), sep="\n")


@click.command()
@options.model_argument
@click.argument("other", type=FILE, required=False)
@click.option("--target", default="cpu", show_default=True, help="The device to measure on.")
@click.option(
    "--device", metavar="ADDRESS", help="Where it is: ssh://user@host[:port], or local [default: this process]."
)
@options.threads_option
@options.shape_option
@click.option("--seconds", type=POSITIVE, default=10, show_default=True, help="Measure for at most so long.")
@options.json_option
@support.say_how_much
def bench(
    model: Path,
    other: Path | None,
    target: str,
    device: str | None,
    threads: int,
    shapes: Shapes,
    seconds: float,
    as_json: bool,
    shown: Shown,
) -> None:
    """Measure MODEL's latency, and OTHER's against it, in turns of 0.15 s."""
    models = [model] if other is None else [model, other]
    if device is None:
        from edgeprune.compiler import bench_models

        result = bench_models(
            models, target=target, threads=threads, shapes=shapes, max_seconds=seconds, progress=shown.progress()
        )
    else:
        from edgeprune.compiler import bench_on_device

        result = bench_on_device(
            models,
            device,
            target=target,
            threads=threads,
            shapes=shapes,
            max_seconds=seconds,
            progress=shown.progress(),
        )
    if as_json:
        support.print_json(result.to_json())
        return
    from edgeprune.report import print_measurements

    print_measurements(support.output_console(), result.measurements, result.speedup)
