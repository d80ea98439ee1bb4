"""The command line: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

import edgeprune
from edgeprune import cli_support as support
from edgeprune.cli_devices import predict, profile, targets
from edgeprune.cli_reports import gate, report
from edgeprune.cli_support import MODEL, POSITIVE, Shown
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.calibration_spec import CalibrationSpec
    from edgeprune.report.model import Report

Shapes = dict[str, tuple[int, ...]]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(edgeprune.__version__, package_name="edgeprune")
def cli() -> None:
    """Make an exported ONNX model faster on a given device: prune, quantize, measure, and say what it cost."""


@cli.command("compile")
@click.argument("model", type=MODEL)
@click.option("--target", required=True, help="The device; `edgeprune targets` lists them.")
@click.option("--latency-ms", type=POSITIVE, metavar="X", help="Budget: at most so many milliseconds.")
@click.option("--speedup", type=POSITIVE, metavar="X", help="Budget: at least so many times as fast as the original.")
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="D", help="Fastest that loses at most D points.")
@support.calibration_options
@click.option("--eval", "evaluation", metavar="SRC", help="An .npz with inputs and `labels`, or file.py:function.")
@click.option("-o", "--out", type=MODEL, metavar="DIR", help="Output folder [default: MODEL.TARGET beside the model].")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Of the layers; auto chooses one for each.",
)
@click.option(
    "--sparsity",
    type=click.Choice(["auto", "none", "2:4"]),
    default="auto",
    show_default=True,
    help="Of the weights; auto uses 2:4 where the target gains by it.",
)
@click.option("--power-mode", metavar="NAME", help="Of a Jetson, under NVIDIA's name [default: the fastest].")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a CPU target.")
@support.shape_option
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of everything random.")
@click.option("--force", is_flag=True, help="Replace the output folder if it exists.")
@support.say_how_much
def compile_command(
    model: Path,
    target: str,
    latency_ms: float | None,
    speedup: float | None,
    max_drop: float | None,
    calibration: CalibrationSpec | None,
    evaluation: str | None,
    out: Path | None,
    precision: str,
    sparsity: str,
    power_mode: str | None,
    threads: int,
    shapes: Shapes,
    seed: int,
    force: bool,
    shown: Shown,
) -> None:
    """Compress MODEL for a target within a budget, and measure the result against the original."""
    if sum(limit is not None for limit in (latency_ms, speedup, max_drop)) > 1:
        raise UsageError("--latency-ms, --speedup and --max-drop are three ways to say the budget: give one")
    from edgeprune.targets import load_profile

    target = load_profile(target).name
    from edgeprune.compiler import compile_model

    out = out or model.with_name(f"{model.stem}.{target}")
    result = compile_model(
        model,
        target,
        latency_ms=latency_ms,
        speedup=speedup,
        max_drop=max_drop,
        calibration=calibration,
        evaluation=evaluation,
        out=out,
        precision=precision,
        sparsity=sparsity,
        power_mode=power_mode,
        threads=threads,
        shapes=shapes,
        seed=seed,
        force=force,
        progress=shown.progress(),
    )
    _print_result(result, out)


@cli.command()
@click.argument("model", type=MODEL)
@click.option("--ratio", type=click.FloatRange(0, 1, max_open=True), required=True, help="Share of units to remove.")
@click.option("--criterion", metavar="NAME", help="How units are ranked [default: obs with --calib, else l2].")
@support.calibration_options
@click.option("--compensate/--no-compensate", default=True, help="Refit what stays to make up for what goes.")
@click.option("-o", "--out", type=MODEL, metavar="DIR", help="Output folder [default: MODEL.pruned beside the model].")
@click.option("--target", help="Align widths to this device's steps.")
@support.shape_option
@click.option(
    "--allow-statistic", is_flag=True, help="Also cut axes that LayerNormalization takes its statistics over."
)
@click.option("--force", is_flag=True, help="Replace the output folder if it exists.")
@support.say_how_much
def prune(
    model: Path,
    ratio: float,
    criterion: str | None,
    calibration: CalibrationSpec | None,
    compensate: bool,
    out: Path | None,
    target: str | None,
    shapes: Shapes,
    allow_statistic: bool,
    force: bool,
    shown: Shown,
) -> None:
    """Remove a share of MODEL's channels and heads, whatever the latency."""
    from edgeprune.pruner import prune_model

    out = out or model.with_name(f"{model.stem}.pruned")
    result = prune_model(
        model,
        ratio,
        criterion=criterion,
        calibration=calibration,
        compensate=compensate,
        out=out,
        target=target,
        shapes=shapes,
        allow_statistic=allow_statistic,
        force=force,
        progress=shown.progress(),
    )
    _print_result(result, out)


@cli.command()
@click.argument("model", type=MODEL)
@click.option(
    "--why", metavar="TENSOR", help="Say for each axis of one tensor what cuts it, or what stands in the way."
)
@support.shape_option
@click.option(
    "--allow-statistic", is_flag=True, help="Also cut axes that LayerNormalization takes its statistics over."
)
@click.option("--dot", type=MODEL, metavar="FILE", help="Also draw the groups over the graph, as Graphviz text.")
@click.option("--html", type=MODEL, metavar="FILE", help="Also draw them as a web page that needs nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    from edgeprune.inspection import inspect_model
    from edgeprune.output import write_text

    found = inspect_model(model, shapes=shapes, allow_statistic=allow_statistic)
    if dot is not None:
        from edgeprune.drawing import to_dot

        write_text(dot, to_dot(found.analysis))
    if html is not None:
        from edgeprune.drawing_html import to_html

        write_text(html, to_html(found))
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


@cli.command()
@click.argument("model", type=MODEL)
@click.argument("other", type=MODEL, required=False)
@click.option("--target", default="cpu", show_default=True, help="The device to measure on.")
@click.option(
    "--device", metavar="ADDRESS", help="Where it is: ssh://user@host[:port], or local [default: this process]."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of a CPU target.")
@support.shape_option
@click.option("--seconds", type=POSITIVE, default=10, show_default=True, help="Measure for at most so long.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
        from edgeprune.bench_models import bench_models

        result = bench_models(
            models, target=target, threads=threads, shapes=shapes, max_seconds=seconds, progress=shown.progress()
        )
    else:
        from edgeprune.bench_device import bench_on_device

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
    from edgeprune.report.terminal import print_measurements

    print_measurements(support.output_console(), result.measurements, result.speedup)


for command in (gate, predict, profile, report, targets):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    support.run_and_exit(cli, arguments)


def _print_result(report: Report, out: Path) -> None:
    from edgeprune.report.terminal import print_report

    print_report(support.output_console(), report)
    click.echo(f"written to {out}")
