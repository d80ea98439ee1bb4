"""The command that trains: distill."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, SOURCE
from edgeprune.cli.support import Verbosity
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgeprune.calibration import CalibrationSpec
    from edgeprune.cli.options import Shapes
    from edgeprune.outputs import Choice

Command = TypeVar("Command", bound="Callable[..., Any]")


def _data_options(command: Command) -> Command:
    """Add --data and the options for images."""
    return options.calibration_options(command, "--data")


@click.command()
@click.argument("folder", type=FILE, metavar="DIR")
@_data_options
@click.option("--minutes", type=options.POSITIVE, metavar="M", help="Train for so long [default: 30].")
@click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Train for so many updates.")
@click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Train for so many passes over the data.")
@click.option(
    "--loss",
    default="kd:1,output:0.5,feature:0.5",
    show_default=True,
    metavar="NAME[:WEIGHT],...",
    help="What is compared with the original: kd, output, feature, cwd, attention, logit-standard; none with --labels.",
)
@click.option(
    "--train",
    type=click.Choice(["all", "norms", "lora"]),
    default="all",
    show_default=True,
    help="Which weights: all; normalizations and biases; or products of small matrices that are added afterwards.",
)
@click.option("--qat/--no-qat", default=True, help="Train weights behind Q/DQ through the Q/DQ, or leave them.")
@click.option(
    "--scales",
    type=click.Choice(["fixed", "learned"]),
    default="fixed",
    show_default=True,
    help="Scales of quantized activations: as they are, or learned with the weights (LSQ).",
)
@click.option(
    "--labels",
    type=SOURCE,
    metavar="SRC",
    help="Your own loss, added to the others: file.py:function of outputs, inputs and positions in the data.",
)
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, help="Samples between two updates.")
@click.option("--micro-batch", type=click.IntRange(min=1), metavar="N", help="Samples at once [default: --batch].")
@click.option("--rate", type=float, metavar="R", help="Peak learning rate, relative to the weights [default: found].")
@click.option("--augment/--no-augment", default=True, help="Vary images: flips, crops, colors, pieces of others.")
@click.option(
    "--replays", type=click.IntRange(min=0), default=1, show_default=True, help="How often a view is used again."
)
@click.option(
    "--half/--no-half",
    default=None,
    help="Compute in bfloat16 until the last part [default: where the processor does, and the model has no Q/DQ].",
)
@click.option(
    "--optimizer",
    type=click.Choice(["muon", "adamw"]),
    default="muon",
    show_default=True,
    help="What updates the weights; muon: matrices by Muon, the others by AdamW.",
)
@click.option("--device", default="cpu", show_default=True, metavar="NAME", help="Where to train: cpu or cuda.")
@options.choice_options
@click.option("-o", "--out", type=FILE, metavar="DIR", help="Output folder [default: DIR.distilled].")
@click.option("--force", is_flag=True, help="Replace the output folder if it exists.")
@options.shape_option
@options.seed_option
@options.json_option
@support.verbosity_options
def distill(
    folder: Path,
    calibration: CalibrationSpec | None,
    loss: str,
    choice: Choice,
    out: Path | None,
    force: bool,
    shapes: Shapes,
    as_json: bool,
    verbosity: Verbosity,
    **asked: Any,
) -> None:
    """Train the model of DIR, which compile or prune wrote, from data without labels; its teacher is the dense model.

    Q/DQ stays where it is and is trained through; the result has the same nodes, and so the same latency. An
    interrupted training goes on when the command is repeated.
    """
    if calibration is None:
        raise UsageError("distill needs data to learn from: give --data, the same sources as --calib of compile")
    from edgeprune.executor import require_torch

    require_torch("distill")
    from edgeprune.distill import Settings, distill_folder, parse_losses

    out = out or folder.with_name(f"{folder.name}.distilled")
    settings = Settings(losses=parse_losses(loss), **asked)
    report = distill_folder(
        folder,
        calibration,
        settings=settings,
        out=out,
        force=force,
        shapes=shapes,
        choice=choice,
        progress=verbosity.progress(),
    )
    if report is None:  # another process of torchrun tells
        return
    if as_json:
        click.echo(report.to_json(), nl=False)
        return
    from edgeprune.report import print_report

    print_report(support.output_console(), report, reasons=verbosity.verbose)
    click.echo(f"written to {out}")
