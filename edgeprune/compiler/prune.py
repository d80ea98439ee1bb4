"""``edgeprune prune``: remove a share of every group, without regard to latency."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import (
    Calibration,
    CalibrationSpec,
    as_spec,
    compare_with_original,
    fidelity,
    hint_of_samples,
    outputs_of,
)
from edgeprune.compiler.assemble import float_layers, plan_of, refusals_of, sizes_of
from edgeprune.compiler.opening import open_with_data
from edgeprune.dependency import OpenedModel, Shapes, TiedWidths, picture
from edgeprune.devices import load_profile
from edgeprune.errors import CalibrationError, ModelError
from edgeprune.importance import choose, rank
from edgeprune.latency import head_widths
from edgeprune.outputs import Choice
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import prune_channels, verify_cut
from edgeprune.passes.recover import compensate as refit
from edgeprune.report import Accuracy, ModelFile, Outcome, Report, installed_versions, write_report
from edgeprune.support import Progress, check_output, output_folder

COMMON_STEP = 8
"""Widths are multiples of this if no target is given: no target has a smaller step."""


def prune_model(
    model: str | Path,
    ratio: float,
    *,
    criterion: str | None = None,
    calibration: CalibrationSpec | str | Path | None = None,
    compensate: bool = True,
    out: str | Path | None = None,
    target: str | None = None,
    shapes: Shapes | None = None,
    allow_statistic: bool = False,
    force: bool = False,
    seed: int = 0,
    choice: Choice | None = None,
    progress: Progress | None = None,
) -> Report:
    """Remove a share of a model's channels and heads, and write the folder of a prune.

    Args:
        model: the ONNX file.
        ratio: share of every group's units to remove, 0 to 1.
        criterion: that ranks units; by default ``obs`` with calibration data, else ``l2``.
        calibration: needed by most criteria and by ``compensate``; a `CalibrationSpec`, or the value of ``--calib``.
        compensate: refit the remaining weights to make up for the removed units.
        out: folder to write; ``<model>.pruned`` in the working folder by default.
        target: align widths to this device's steps, and sizes of heads to its fused attention.
        shapes: input name -> dimensions, for inputs with dynamic dimensions.
        allow_statistic: also cut axes over which a normalization computes its statistics.
        force: replace the folder if it exists.
        seed: of all random numbers.
        choice: which outputs count, and how they are compared.
        progress: shows the progress.

    Raises:
        CalibrationError: data is missing or does not fit the model.
        ModelError: the model is invalid, or nothing in it can be cut.
        UsageError: the folder exists, or flags contradict each other.
    """
    progress = progress or Progress()
    model, calibration = Path(model), as_spec(calibration)
    out = Path(out or f"{model.stem}.pruned")
    check_output(out, force=force)
    if compensate and calibration is None:
        raise CalibrationError("compensating needs calibration data: give --calib, or --no-compensate")
    opened, data = open_with_data(
        model, shapes or {}, calibration, progress, allow_statistic=allow_statistic, only_needed=True
    )
    data, held_out = _judged(opened, data, seed, choice or Choice())
    name = criterion or ("obs" if data is not None else "l2")
    step = load_profile(target).channel_step("fp32") if target else COMMON_STEP
    with progress.step(f"ranking by {name}"):
        ranking = rank(name, opened.dense, opened.analysis, data, step)
        cut = choose(opened.analysis, ranking, ratio, step, _tied(opened, target))
        pruned = prune_channels(opened.dense, opened.analysis, cut)
    if cut:
        with progress.step("verifying the cut"):
            verify_cut(
                opened.dense, pruned, opened.analysis, cut, values=not allow_statistic, sizes=opened.sizes.shapes
            )
    if compensate and data is not None and cut:
        with progress.step("refitting what stays"):
            pruned = refit(opened.dense, pruned, opened.analysis, cut, data)
    with output_folder(out, force=force) as folder:
        with progress.step("writing"):
            graph.save(opened.dense, folder / "dense.onnx")
            graph.save(pruned, folder / "model.onnx")
            plan_of(opened, target or "none", cut, float_layers(pruned), seed=seed).save(folder / "plan.json")
        with progress.step("comparing with the original"):
            accuracy = _fidelity(opened, pruned, held_out)
        report = Report(
            command="prune",
            target=target or "none",
            model=ModelFile(model.name, opened.sha256),
            outcome=_outcome(len(cut), len(opened.analysis.groups), ratio),
            sizes=sizes_of(opened, pruned, folder / "model.onnx"),
            versions=installed_versions(),
            seconds=progress.seconds,
            seed=seed,
            accuracy=accuracy,
            calibration=None if data is None else data.describe(),
            refused=refusals_of(opened.analysis),
            warnings=(
                *dict.fromkeys((*opened.sentences(), *graph.warnings_of(pruned))),
                *(() if accuracy is None else hint_of_samples(accuracy)),
            ),
        )
        write_report(folder, report, picture(opened.analysis))
    return report


def _tied(opened: OpenedModel, target: str | None) -> tuple[TiedWidths, ...]:
    """The head sizes of attentions that one kernel of the target computes; all of them stay whole if none is known."""
    if target is None or (profile := load_profile(target)).runtime().on_cpu:
        return ()
    try:
        return head_widths(canonicalize(opened.fixed, verify=False), opened.analysis, profile.device())
    except ModelError as error:
        graph.add_warning(opened.dense, f"dimensions of heads stay: {error}")
        groups = enumerate(opened.analysis.groups)
        return tuple(TiedWidths((i,), np.array([[g.size]])) for i, g in groups if g.kind == "dim")


def _judged(
    opened: OpenedModel, data: Calibration | None, seed: int, choice: Choice
) -> tuple[Calibration | None, Calibration | None]:
    """Calibration data that knows the outputs, and the held-out part of it; a single sample cannot be divided."""
    if data is None:
        if choice.metrics or choice.weights:
            raise CalibrationError("--outputs and --fidelity compare outputs on calibration data: give --calib")
        return None, None
    data = data.judging(choice.applied_to(outputs_of(opened.dense, data)))
    return data.split(seed=seed) if data.items >= 2 else (data, None)


def _fidelity(opened: OpenedModel, pruned: ir.Model, held_out: Calibration | None) -> Accuracy | None:
    if held_out is None:
        return None

    runtime = OnnxRuntime()
    reference = runtime.load(opened.scored if opened.ranges else opened.dense).run  # what came in, as it came
    return compare_with_original(fidelity(reference, held_out, opened.dense), runtime.load(pruned).run)


def _outcome(cut: int, groups: int, ratio: float) -> Outcome:
    if not groups:
        return Outcome("original", True, "Nothing was removed: no channels or heads can be; `inspect` tells why.")
    if not cut:
        return Outcome(
            "original", True, f"Nothing was removed: none of {groups} groups can lose {ratio:.0%} of its units."
        )
    return Outcome("compressed", True, f"Units were removed from {cut} of {groups} groups; latency was not measured.")
