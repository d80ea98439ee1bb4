"""Commands between PyTorch and ONNX: export a module, and apply a plan to a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, SOURCE
from edgeprune.cli.support import Verbosity

if TYPE_CHECKING:
    from edgeprune.pytorch import Applied, Exported


@click.command()
@click.argument("source")
@click.option("-o", "--out", type=FILE, metavar="FILE", help="The ONNX file [default: named after the model].")
@options.shape_option
@click.option("--dynamic", metavar="NAME:AXIS", multiple=True, help="Leave an axis open, such as images:0; repeatable.")
@click.option("--opset", type=click.IntRange(min=13), metavar="N", help="Opset [default: 18].")
@click.option(
    "--exporter",
    type=click.Choice(["auto", "dynamo", "torchscript"]),
    default="auto",
    show_default=True,
    help="PyTorch's exporter; auto tries both and takes the correct graph with fewer nodes.",
)
@click.option("--weights", type=SOURCE, metavar="FILE", help="State dict to load first; a name without one is random.")
@click.option("--pretrained", is_flag=True, help="For a name: download the published weights.")
@options.seed_option
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.json_option
@support.verbosity_options
def export(
    source: str,
    out: Path | None,
    opset: int | None,
    weights: str | None,
    as_json: bool,
    verbosity: Verbosity,
    **asked: Any,
) -> None:
    """Export SOURCE from PyTorch to a checked ONNX file, and compare its outputs with PyTorch's.

    SOURCE is file.py:function that returns a torch.nn.Module (and example inputs, if any), or a name, as in
    timm/vit_tiny_patch16_224, torchvision/resnet18 and ultralytics/yolov8n.
    """
    from edgeprune.pytorch import DEFAULT_OPSET, export_model

    state = None if weights is None else Path(weights)
    progress = verbosity.progress()
    done = export_model(source, out, opset=opset or DEFAULT_OPSET, weights=state, progress=progress, **asked)
    _print_done(done, as_json, verbosity)


@click.command()
@click.argument("plan", type=FILE)
@click.argument("checkpoint", type=FILE)
@click.option("-o", "--out", type=FILE, metavar="FILE", help="The cut checkpoint [default: CHECKPOINT.pruned.pt].")
@click.option(
    "--weights",
    type=click.Choice(["auto", "checkpoint", "compiled"]),
    default="auto",
    show_default=True,
    help="Values: the checkpoint's own, or those refitted by compile; auto takes these if model.onnx is float.",
)
@click.option("--module", type=SOURCE, metavar="FILE.PY:FUNCTION", help="The module: cut it too, and check it.")
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.json_option
@support.verbosity_options
def apply(plan: Path, checkpoint: Path, out: Path | None, as_json: bool, verbosity: Verbosity, **asked: Any) -> None:
    """Cut CHECKPOINT, a PyTorch state dict, to the widths of PLAN (a plan.json), for fine-tuning in PyTorch."""
    from edgeprune.pytorch import apply_plan

    done = apply_plan(plan, checkpoint, out, progress=verbosity.progress(), **asked)
    _print_done(done, as_json, verbosity)


def _print_done(done: Applied | Exported, as_json: bool, verbosity: Verbosity) -> None:
    if as_json:
        support.print_json(done.to_json())
        return
    if not verbosity.quiet:
        for sentence in done.notes:
            click.echo(f"note: {sentence}", err=True)
    click.echo(done.summary())
