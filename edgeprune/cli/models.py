"""Commands that read a model and write none: inspect and bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprune.cli import options, support
from edgeprune.cli.options import FILE, POSITIVE, Shapes
from edgeprune.cli.support import Verbosity
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.calibration import CalibrationSpec


@click.command()
@options.model_argument
@click.option(
    "--why",
    metavar="NAME",
    help="Say for each axis of a tensor what cuts it, or what freezes it; also of a node or a group.",
)
@options.shape_option
@options.statistic_option
@click.option("--dot", type=FILE, metavar="FILE", help="Also draw the groups over the graph as Graphviz text.")
@click.option("--html", type=FILE, metavar="FILE", help="Also draw them as a self-contained web page.")
@options.json_option
@support.verbosity_options
def inspect(
    model: Path,
    why: str | None,
    shapes: Shapes,
    allow_statistic: bool,
    dot: Path | None,
    html: Path | None,
    as_json: bool,
    verbosity: Verbosity,
) -> None:
    """Show what can be removed from MODEL and what cannot, with reasons; nothing is run."""
    from edgeprune.dependency import inspect_model
    from edgeprune.passes.prune import try_cut
    from edgeprune.support import write_text

    found = inspect_model(model, shapes=shapes, allow_statistic=allow_statistic, trial=try_cut)
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
        from edgeprune.report import print_notes

        support.output_console().print(*found.render(), sep="\n")
        print_notes(support.output_console(), found.warnings)


@click.command()
@options.model_argument
@click.argument("other", type=FILE, required=False)
@click.option("--target", default="cpu", show_default=True, help="The device to measure on.")
@options.devices_option
@options.runtime_option
@options.threads_option
@options.shape_option
@click.option("--seconds", "max_seconds", type=POSITIVE, default=10, show_default=True, help="Longest time to measure.")
@options.calibration_options
@options.builds_option
@options.timing_cache_option
@click.option("--cuda-graph", is_flag=True, help="With --device and TensorRT: replay the kernels as one CUDA graph.")
@options.json_option
@support.verbosity_options
def bench(
    model: Path,
    other: Path | None,
    device: str | tuple[str, ...] | None,
    builds: int,
    timing_cache: Path | None,
    cuda_graph: bool,
    calibration: CalibrationSpec | None,
    as_json: bool,
    verbosity: Verbosity,
    **asked: Any,
) -> None:
    """Measure MODEL's latency, and OTHER's against it, in turns of 0.15 s.

    With --device, TensorRT and --calib, the engines are also run on these samples, and compared with what their graphs
    compute here.
    """
    models = [model] if other is None else [model, other]
    if device is None:
        if cuda_graph:
            raise UsageError("--cuda-graph is for an engine on a device: give --device")
        if calibration is not None:
            raise UsageError("--calib is for an engine on a device: give --device")
        if builds > 1 or timing_cache is not None:
            raise UsageError("--builds and --timing-cache are for engines on a device: give --device")
        from edgeprune.latency import bench_models

        result = bench_models(models, progress=verbosity.progress(), **asked)
    else:
        from edgeprune.latency import bench_on_device

        asked |= {"cuda_graph": cuda_graph, "calibration": calibration}
        asked |= {"builds": builds, "timing_cache": timing_cache}
        result = bench_on_device(models, device, progress=verbosity.progress(), **asked)
    if as_json:
        support.print_json(result.to_json())
        return
    from edgeprune.report import print_measurements
    from edgeprune.support import plural

    print_measurements(support.output_console(), result.measurements, result.speedup)
    for name, samples in result.samples.items():
        found = [sample.latency.median_ms for sample in samples]
        shown = f"{min(found):.4g} to {max(found):.4g} ms, {max(found) / min(found) - 1:.1%} apart"
        click.echo(f"{name}: {len(found)} engines on {plural(len({s.board for s in samples}), 'board')}: {shown}")
    for name, memory in result.memory.items():
        click.echo(f"{name}: {memory.mb:.4g} MB for weights and activations, as TensorRT says")
    for name, engine in result.engines.items():
        for output in engine.outputs:
            agreement = f"{output.metric} {output.agreement:.4g} {output.unit} with its graph"
            click.echo(f"{name}: output {output.name!r} on {engine.samples} samples by {engine.by}: {agreement}")
