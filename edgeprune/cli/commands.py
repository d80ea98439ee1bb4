"""The command line: parse, call, print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

import edgeprune
from edgeprune.cli import options, support
from edgeprune.cli.devices import predict, profile, targets
from edgeprune.cli.models import bench, inspect
from edgeprune.cli.options import FILE, POSITIVE, SOURCE
from edgeprune.cli.pytorch import apply, export
from edgeprune.cli.recipe import BUDGETS, effective, recipe, recipe_option
from edgeprune.cli.reports import gate, report
from edgeprune.cli.setup import completion, doctor
from edgeprune.cli.support import Shown
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.compiler import Recipe
    from edgeprune.report import Report


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(edgeprune.__version__, package_name="edgeprune")
def cli() -> None:
    """Make an exported ONNX model faster on a given device: prune, quantize, measure, and say what it cost."""


@cli.command("compile")
@options.model_argument
@recipe_option
@options.target_option
@click.option("--latency-ms", type=POSITIVE, metavar="X", help="Budget: at most so many milliseconds.")
@click.option("--speedup", type=POSITIVE, metavar="X", help="Budget: at least so many times as fast as the original.")
@click.option("--max-drop", type=click.FloatRange(min=0), metavar="D", help="Fastest that loses at most D points.")
@click.option(
    "--pareto",
    metavar="X,Y,...",
    callback=options.parse_speedups,
    help="Budgets: several speed-ups in one run, each in a folder of its own, and their curve (target cpu).",
)
@options.calibration_options
@click.option(
    "--eval", "evaluation", type=SOURCE, metavar="SRC", help="An .npz with inputs and `labels`, or file.py:function."
)
@options.output_options("TARGET")
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
@options.device_option
@click.option(
    "--profile",
    "profile_file",
    type=FILE,
    metavar="FILE",
    help="What `edgeprune profile --device` wrote of MODEL [default: what is kept of it].",
)
@click.option(
    "--surgery",
    type=SOURCE,
    metavar="SRC",
    help="file.py:function for the graph that TensorRT builds, or efficient-nms to append its NMS to a YOLO head.",
)
@options.threads_option
@options.shape_option
@options.seed_option
@options.json_option
@support.say_how_much
def compile_command(
    model: Path,
    target: str,
    pareto: tuple[float, ...] | None,
    out: Path | None,
    as_json: bool,
    shown: Shown,
    **asked: Any,
) -> None:
    """Compress MODEL for a target within a budget, and measure the result against the original."""
    if sum(limit is not None for limit in (pareto, *(asked[b] for b in BUDGETS if b != "pareto"))) > 1:
        raise UsageError("--latency-ms, --speedup, --max-drop and --pareto are four ways to say the budget: give one")
    from edgeprune.devices import load_profile

    target = load_profile(target).name
    out = out or model.with_name(f"{model.stem}.{target}")
    used = effective(click.get_current_context())
    if pareto is not None:
        _compile_curve(model, target, pareto, out, used.moved_to(out), as_json, shown, asked)
        return
    from edgeprune.compiler import compile_model

    result = compile_model(model, target, out=out, progress=shown.progress(), recipe=used.moved_to(out), **asked)
    _print_result(result, out, as_json, shown)


@cli.command()
@options.model_argument
@click.option("--ratio", type=click.FloatRange(0, 1, max_open=True), required=True, help="Share of units to remove.")
@click.option("--criterion", metavar="NAME", help="How units are ranked [default: obs with --calib, else l2].")
@options.calibration_options
@click.option("--compensate/--no-compensate", default=True, help="Refit what stays to make up for what goes.")
@options.output_options("pruned")
@click.option("--target", help="Align widths to this device's steps.")
@options.shape_option
@options.statistic_option
@options.json_option
@support.say_how_much
def prune(model: Path, ratio: float, out: Path | None, as_json: bool, shown: Shown, **asked: Any) -> None:
    """Remove a share of MODEL's channels and heads, whatever the latency."""
    from edgeprune.compiler import prune_model

    out = out or model.with_name(f"{model.stem}.pruned")
    result = prune_model(model, ratio, out=out, progress=shown.progress(), **asked)
    _print_result(result, out, as_json, shown)


for command in (apply, bench, completion, doctor, export, gate, inspect, predict, profile, recipe, report, targets):
    cli.add_command(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    support.run_and_exit(cli, arguments)


def _compile_curve(
    model: Path,
    target: str,
    speedups: tuple[float, ...],
    out: Path,
    used: Recipe,
    as_json: bool,
    shown: Shown,
    asked: dict[str, Any],
) -> None:
    from edgeprune.compiler import compile_pareto

    if asked["precision"] not in ("auto", "fp32"):
        raise UsageError(f"--pareto chooses precision by budget: --precision {asked['precision']} leaves it nothing")
    if asked["sparsity"] == "2:4" or asked["power_mode"] is not None:
        raise UsageError("--pareto is for target cpu, which has neither 2:4 sparsity nor power modes")
    if given := [name for name in ("device", "profile_file", "surgery") if asked[name] is not None]:
        raise UsageError(f"--pareto measures on this processor: --{given[0].partition('_')[0]} cannot go with it")
    curve = compile_pareto(
        model,
        target,
        speedups,
        out=out,
        quantize=asked["precision"] == "auto",
        progress=shown.progress(),
        recipe=used,
        **{name: asked[name] for name in ("calibration", "evaluation", "threads", "shapes", "force", "seed")},
    )
    if as_json:
        click.echo(curve.to_json(), nl=False)
        return
    support.output_console().print(*curve.lines(), sep="\n")
    click.echo(f"written to {out}")


def _print_result(report: Report, out: Path, as_json: bool, shown: Shown) -> None:
    if as_json:
        click.echo(report.to_json(), nl=False)
        return
    from edgeprune.report import print_reasons, print_report

    console = support.output_console()
    print_report(console, report)
    if shown.verbose:
        print_reasons(console, report)
    click.echo(f"written to {out}")
