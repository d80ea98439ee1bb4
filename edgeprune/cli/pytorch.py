"""Commands between PyTorch and ONNX: export there, and apply a plan back."""

from __future__ import annotations

from pathlib import Path

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, SOURCE, Shapes
from edgeprune.cli.support import Shown


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
    help="PyTorch's; auto tries both and takes the one of fewer nodes among those that are right.",
)
@click.option("--weights", type=SOURCE, metavar="FILE", help="A state dict to load before; for a name, random without.")
@click.option("--pretrained", is_flag=True, help="For a name: fetch the published weights.")
@options.seed_option
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.json_option
@support.say_how_much
def export(
    source: str,
    out: Path | None,
    shapes: Shapes,
    dynamic: tuple[str, ...],
    opset: int | None,
    exporter: str,
    weights: str | None,
    pretrained: bool,
    seed: int,
    force: bool,
    as_json: bool,
    shown: Shown,
) -> None:
    """Export SOURCE from PyTorch to a checked ONNX file, and hold it against PyTorch.

    SOURCE is file.py:function that returns a torch.nn.Module (and, if it likes, its example inputs), or a name, as in
    timm/vit_tiny_patch16_224, torchvision/resnet18 and ultralytics/yolov8n.
    """
    from edgeprune.pytorch import DEFAULT_OPSET, export_model

    done = export_model(
        source,
        out,
        shapes=shapes,
        dynamic=dynamic,
        opset=opset or DEFAULT_OPSET,
        exporter=exporter,
        weights=None if weights is None else Path(weights),
        pretrained=pretrained,
        seed=seed,
        force=force,
        progress=shown.progress(),
    )
    if as_json:
        support.print_json(done.to_json())
        return
    _tell(done.summary(), done.notes, shown)


@click.command()
@click.argument("plan", type=FILE)
@click.argument("checkpoint", type=FILE)
@click.option("-o", "--out", type=FILE, metavar="FILE", help="The cut checkpoint [default: CHECKPOINT.pruned.pt].")
@click.option(
    "--weights",
    type=click.Choice(["auto", "checkpoint", "compiled"]),
    default="auto",
    show_default=True,
    help="Values: the checkpoint's own, or what the compile refitted; auto takes this where model.onnx is float.",
)
@click.option(
    "--module", "module_spec", type=SOURCE, metavar="FILE.PY:FUNCTION", help="The model: cut it too, check it."
)
@click.option("--force", is_flag=True, help="Replace the file if it exists.")
@options.json_option
@support.say_how_much
def apply(
    plan: Path,
    checkpoint: Path,
    out: Path | None,
    weights: str,
    module_spec: str | None,
    force: bool,
    as_json: bool,
    shown: Shown,
) -> None:
    """Cut CHECKPOINT, a PyTorch state dict, to the widths of PLAN (a plan.json), to fine-tune it there."""
    from edgeprune.pytorch import apply_plan

    done = apply_plan(
        plan, checkpoint, out, weights=weights, module=module_spec, force=force, progress=shown.progress()
    )
    if as_json:
        support.print_json(done.to_json())
        return
    _tell(done.summary(), done.notes, shown)


def _tell(summary: str, notes: tuple[str, ...], shown: Shown) -> None:
    if not shown.quiet:
        for sentence in notes:
            click.echo(f"note: {sentence}", err=True)
    click.echo(summary)
