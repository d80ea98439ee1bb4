"""Commands on targets: list them, measure a profile, predict a model's latency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, Shapes
from edgeprune.cli.support import Verbosity
from edgeprune.errors import UsageError

_KERNELS_SHOWN = 10


@click.command()
@options.json_option
@support.verbosity_options
def targets(as_json: bool, verbosity: Verbosity) -> None:
    """List the devices that models can be compiled for."""
    from edgeprune.devices import load_profile, target_names

    profiles = [load_profile(name) for name in target_names()]
    if as_json:
        support.print_json(
            {
                profile.name: {
                    "title": profile.title,
                    "source": profile.source,
                    "error": profile.error and profile.error.median,
                    "error_by_family": profile.error and _medians(profile.error.families),
                    "error_by_precision": profile.error and _medians(profile.error.precisions),
                    "precisions": profile.precisions,
                    "power_modes": [mode.name for mode in profile.power_modes],
                }
                for profile in profiles
            }
        )
        return
    from edgeprune.cli.tables import print_targets

    print_targets(support.output_console(), profiles)


def _medians(parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: figures["median"] for name, figures in parts.items()}


@click.command()
@click.argument("model", type=FILE, required=False)
@options.target_option
@options.device_option
@click.option(
    "--minutes",
    type=options.POSITIVE,
    default=30,
    show_default=True,
    help="With --device: start no new network after this time; run it again to continue.",
)
@options.runtime_option
@options.threads_option
@options.shape_option
@click.option("-o", "--out", type=FILE, metavar="FILE", help="Write the profile as JSON.")
@support.verbosity_options
def profile(
    model: Path | None,
    target: str,
    device: str | None,
    minutes: float,
    runtime: str | None,
    threads: int,
    shapes: Shapes,
    out: Path | None,
    verbosity: Verbosity,
) -> None:
    """Measure the blocks of MODEL on a target; without MODEL and --device, print the target's analytic profile.

    A CPU is measured on this machine or at --device; every other target needs --device. Without MODEL a GPU measures a
    built-in network, and `compile` then scales its predictions of all models by the result. Measurements are stored in
    the user's cache folder ($EDGEPRUNE_CACHE, if set), and `compile` uses them.
    """
    import json

    from edgeprune.devices import load_profile
    from edgeprune.support import write_text

    known = load_profile(target)
    if model is None and known.source != "analytic":
        raise UsageError(f"target {known.name!r} has no analytic profile: give the MODEL whose blocks to measure")
    if model is None and device is None:
        text = json.dumps(known.document, indent=1) + "\n"
    elif model is None or known.source == "analytic":
        from edgeprune.compiler import profile_on_device

        if device is None:
            raise UsageError(
                f"{known.name} is measured on the device itself: give --device ssh://user@host, or local if this is one"
            )
        progress = verbosity.progress()
        text = profile_on_device(model, known.name, device, shapes=shapes, minutes=minutes, progress=progress).to_json()
    else:
        from edgeprune.latency import profile_model

        address = None if device == "local" else device
        progress = verbosity.progress()
        measured = profile_model(
            model, known.name, runtime=runtime, threads=threads, shapes=shapes, device=address, progress=progress
        )
        text = json.dumps(measured.to_json(), indent=1) + "\n"
    if out is None:
        click.echo(text, nl=False)
    else:
        write_text(out, text)


@click.command()
@options.model_argument
@options.target_option
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "fp8", "best"]),
    help="Precision of all layers; best is the fastest mix [default: as in the graph].",
)
@click.option("--power-mode", metavar="NAME", help="Power mode of the target [default: the fastest].")
@options.shape_option
@options.json_option
@support.verbosity_options
def predict(
    model: Path,
    target: str,
    precision: str | None,
    power_mode: str | None,
    shapes: Shapes,
    as_json: bool,
    verbosity: Verbosity,
) -> None:
    """Predict MODEL's latency on a target that is not attached, with the typical error."""
    from typing import cast

    from edgeprune.costmodel import Wanted
    from edgeprune.costmodel import predict as predicted

    found = predicted(model, target, power_mode, cast("Wanted | None", precision), shapes)
    if as_json:
        support.print_json(found.to_json())
        return
    from edgeprune.cli.tables import print_prediction

    print_prediction(support.output_console(), found, _KERNELS_SHOWN)
