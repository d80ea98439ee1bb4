"""``edgeprune compile``, top to bottom: check, open, search and build, deliver."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.calibration import CalibrationSpec
from edgeprune.compiler.delivery import deliver
from edgeprune.compiler.open_session import open_session
from edgeprune.compiler.pipeline import reach
from edgeprune.compiler.recipe import RECIPE, Recipe
from edgeprune.compiler.request import Request
from edgeprune.dependency import picture_of
from edgeprune.report import Report, write_report
from edgeprune.support import Progress, check_output, output_folder, shared_cores


@shared_cores()
def compile_model(
    model: Path,
    target: str,
    *,
    latency_ms: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    calibration: CalibrationSpec | None = None,
    evaluation: str | None = None,
    out: Path | None = None,
    precision: str = "auto",
    sparsity: str = "auto",
    power_mode: str | None = None,
    device: str | None = None,
    profile_file: Path | None = None,
    surgery: str | None = None,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Report:
    """Compress a model for a target within a budget, measure it, and write the folder of a compile.

    Args:
        model: the ONNX file.
        target: device name.
        latency_ms: budget in milliseconds.
        speedup: budget as a multiple of the original's speed.
        max_drop: the fastest that loses at most so many points of accuracy, or percent of fidelity.
        calibration: samples to choose by, refit and quantize with.
        evaluation: what ``--eval`` names; fidelity to the original stands in where there is none.
        out: folder to write; ``<model>.<target>`` beside the model by default.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        sparsity: ``auto``, ``none`` or ``2:4``.
        power_mode: of a target that has some; the fastest by default.
        device: where the target is: ``local``, or ``ssh://user@host[:port]``; without it a GPU's times are predicted.
        profile_file: what the device measured of the model; by default what is kept of it, if anything is.
        surgery: what is done to the lowered graph before its engine is built; see `edgeprune.build.surgery`.
        threads: of the runtime, on a CPU.
        shapes: input name -> dimensions, for inputs that leave some open.
        force: replace the folder if it exists.
        seed: of everything random.
        progress: told how far it is.
        recipe: the flags that this comes from, to be kept with the result.

    Raises:
        UsageError: a flag does not fit, or the folder exists.
        CalibrationError, EvaluationError: data is missing or does not fit.
        ModelError: the model is invalid or cannot be worked on.
        BudgetError: the budget can't be met; the text says what can.
        BackendError: TensorRT does not build the result.
    """
    progress = progress or Progress()
    request = Request(
        Path(model),
        target,
        calibration,
        evaluation,
        precision,
        sparsity,
        power_mode,
        device,
        profile_file,
        surgery,
        threads,
        shapes or {},
        seed,
    )
    out = out or request.model.with_name(f"{request.model.stem}.{target}")
    check_output(out, force=force)
    request.check()
    goal = request.goal(latency_ms, speedup, max_drop)
    session = open_session(request, goal, progress)
    reached = reach(session, goal)
    with output_folder(out, force=force) as folder:
        return keep_recipe(recipe, deliver(session, goal, reached, folder), folder)


def keep_recipe(recipe: Recipe | None, report: Report, folder: Path) -> Report:
    """Write the recipe into the folder and its report, so that the result can be had again."""
    if recipe is None:
        return report
    report = dataclasses.replace(report, recipe=recipe.values, reproduce=recipe.command())
    (folder / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
    write_report(folder, report, picture_of(folder))
    return report
