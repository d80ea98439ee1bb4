"""The group of all commands, with compile and prune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

import edgeprune
from edgeprune.cli import options, support
from edgeprune.cli.devices import predict, profile, targets
from edgeprune.cli.models import bench, inspect
from edgeprune.cli.options import FILE, SOURCE
from edgeprune.cli.pytorch import apply, export
from edgeprune.cli.quantity import LIMITS, MILLISECONDS, POINTS, TIMES, Share, limit_options, parse_speedups
from edgeprune.cli.recipe import BUDGETS, effective, recipe, recipe_option
from edgeprune.cli.reports import gate, report
from edgeprune.cli.setup import completion, doctor
from edgeprune.cli.structure_options import structure_options
from edgeprune.cli.support import Verbosity
from edgeprune.cli.sweep import sweep
from edgeprune.cli.training import distill
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.compiler import Recipe
    from edgeprune.report import Report


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(edgeprune.__version__, package_name="edgeprune")
def cli() -> None:
    """Make an ONNX model faster on a given device: prune, quantize, measure, and report the loss of accuracy."""


@cli.command("compile")
@options.model_argument
@recipe_option
@options.target_option
@click.option("--latency-ms", type=MILLISECONDS, metavar="X", help="Budget: at most X milliseconds.")
@click.option("--speedup", type=TIMES, metavar="X", help="Budget: at least X times as fast as the original.")
@click.option(
    "--max-drop",
    type=POINTS,
    metavar="D",
    help="Budget: the fastest that loses at most D points. Beside another budget: the most that may be lost.",
)
@limit_options
@click.option(
    "--pareto",
    metavar="X,Y,...",
    callback=parse_speedups,
    help="Budgets: several speed-ups in one run, each in its own folder, and their curve.",
)
@click.option(
    "--rival",
    type=FILE,
    metavar="FILE",
    help="A smaller model of the family: timed and scored as it is, beside the result, which says which one wins.",
)
@options.calibration_options
@click.option(
    "--eval",
    "evaluation",
    type=SOURCE,
    metavar="SRC",
    help="An .npz with inputs and `labels`, or file.py:function: it gets the model as a function, and returns a number "
    "(higher is better), or a list with one number for each sample.",
)
@options.choice_options
@options.output_options("TARGET")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16", "int8"]),
    default="auto",
    show_default=True,
    help="Precision of the layers; auto chooses one for each layer. bf16 is OpenVINO's on a CPU.",
)
@click.option(
    "--all-int8",
    is_flag=True,
    help="With --precision int8 and no budget: also layers that INT8 makes slower, or that lose accuracy by it.",
)
@click.option(
    "--sparsity",
    type=click.Choice(["auto", "none", "2:4"]),
    default="auto",
    show_default=True,
    help="Sparsity of the weights; auto uses 2:4 where the target is faster with it.",
)
@options.compile_runtime_option
@structure_options
@click.option("--power-mode", metavar="NAME", help="Power mode of a Jetson, by NVIDIA's name [default: the fastest].")
@options.devices_option
@options.builds_option
@options.timing_cache_option
@click.option(
    "--tune-placement",
    type=options.POSITIVE,
    metavar="MINUTES",
    help="With --device: measure so long which layers are faster in INT8 there; what is known is kept for later.",
)
@click.option(
    "--profile",
    "profile_file",
    type=FILE,
    metavar="FILE",
    help="Profile of MODEL that `edgeprune profile --device` wrote [default: the cached one].",
)
@click.option(
    "--surgery",
    type=SOURCE,
    metavar="SRC",
    help="file.py:function that edits the graph for TensorRT, or efficient-nms to append its NMS to a YOLO head.",
)
@click.option(
    "--recover",
    default="fast",
    show_default=True,
    metavar="[none|fast|MINUTES]",
    help="For accuracy: nothing; learn weights in seconds; or train the result so long, as deployed (needs PyTorch).",
)
@click.option(
    "--explain-loss",
    is_flag=True,
    help="Find what the loss comes from: score the result with one lever, group or layer taken back at a time.",
)
@click.option("--accept-loss", is_flag=True, help="Write the result even if it lost too much to be of use.")
@options.threads_option
@options.stats_device_option
@options.shape_option
@options.seed_option
@options.json_option
@support.verbosity_options
def compile_command(
    model: Path,
    target: str,
    pareto: tuple[float, ...] | None,
    out: Path | None,
    as_json: bool,
    verbosity: Verbosity,
    **asked: Any,
) -> None:
    """Compress MODEL for a target within a budget, and measure the result against the original."""
    if pareto is not None and any(asked[b] is not None for b in BUDGETS if b != "pareto"):
        raise UsageError("--pareto compiles for several speed-ups: leave out --latency-ms, --speedup and --max-drop")
    if pareto is not None and any(asked[limit] is not None for limit in LIMITS):
        raise UsageError(
            "--pareto compiles for several speed-ups: leave out --p99, --max-energy-mj and --max-memory-mb"
        )
    from edgeprune.devices import load_profile

    target = load_profile(target).name
    out = out or Path(f"{model.stem}.{target}")
    used = effective(click.get_current_context())
    from edgeprune.compiler import compile_model

    support.set_imports_aside()
    if pareto is not None:
        _compile_curve(model, target, pareto, out, used.moved_to(out), as_json, verbosity, asked)
        return
    result = compile_model(model, target, out=out, progress=verbosity.progress(), recipe=used.moved_to(out), **asked)
    _print_result(result, out, as_json, verbosity)


@cli.command()
@options.model_argument
@click.option(
    "--ratio",
    type=Share(0, 1, max_open=True),
    metavar="X",
    help="Fraction of the units of every group to remove, such as 0.3 or 30%.",
)
@click.option(
    "--macs",
    type=options.SHARE,
    metavar="X",
    help="Instead: keep at most this share of the multiply-accumulates, at least loss.",
)
@click.option("--parameters", type=options.SHARE, metavar="X", help="Likewise: at most this share of the parameters.")
@click.option(
    "--smallest",
    type=options.SHARE,
    default=0.125,
    show_default=True,
    help="With --macs and --parameters: cut no group below this share of its units.",
)
@click.option("--criterion", metavar="NAME", help="Criterion that ranks units [default: obs with --calib, else l2].")
@options.calibration_options
@options.choice_options
@click.option("--compensate/--no-compensate", default=True, help="Refit the remaining weights after the cut.")
@options.output_options("pruned")
@click.option("--target", help="Align widths to the steps of this device.")
@options.stats_device_option
@options.shape_option
@options.statistic_option
@options.json_option
@support.verbosity_options
def prune(
    model: Path,
    macs: float | None,
    parameters: float | None,
    smallest: float,
    out: Path | None,
    as_json: bool,
    verbosity: Verbosity,
    **asked: Any,
) -> None:
    """Remove some of MODEL's channels and heads; latency is not considered.

    --ratio removes the same fraction of every group. --macs and --parameters remove the units that change the outputs
    least, until the network is so small.
    """
    given = click.get_current_context().get_parameter_source("smallest") is not ParameterSource.DEFAULT
    if given and macs is None and parameters is None:
        raise UsageError("--smallest goes with --macs and --parameters; --ratio cuts every group alike")
    from edgeprune.compiler import prune_model
    from edgeprune.latency import SizeLimit

    support.set_imports_aside()
    out = out or Path(f"{model.stem}.pruned")
    size = None if macs is None and parameters is None else SizeLimit(macs, parameters, smallest)
    result = prune_model(model, size=size, out=out, progress=verbosity.progress(), **asked)
    _print_result(result, out, as_json, verbosity)


for command in (
    *(
        apply,
        bench,
        completion,
        distill,
        doctor,
        export,
        gate,
        inspect,
        predict,
        profile,
        recipe,
        report,
        sweep,
        targets,
    ),
):
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
    verbosity: Verbosity,
    asked: dict[str, Any],
) -> None:
    from edgeprune.compiler import Request, compile_pareto

    given = {name: value for name, value in asked.items() if name not in (*BUDGETS, *LIMITS, "force", "rival")}
    request = Request(model, target, **given)
    kept = {"force": asked["force"], "rival": asked["rival"], "recipe": used}
    curve = compile_pareto(request, speedups, out=out, progress=verbosity.progress(), **kept)
    if as_json:
        click.echo(curve.to_json(), nl=False)
        return
    support.output_console().print(*curve.lines(), sep="\n")
    click.echo(f"written to {out}")


def _print_result(report: Report, out: Path, as_json: bool, verbosity: Verbosity) -> None:
    if as_json:
        click.echo(report.to_json(), nl=False)
        return
    from edgeprune.report import print_report

    print_report(support.output_console(), report, reasons=verbosity.verbose)
    click.echo(f"written to {out}")
