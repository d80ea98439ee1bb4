"""``edgeprune compile``, top to bottom: read, analyse, measure, choose, build, measure again, report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.backends import LOCAL, OnnxRuntime, open_device
from edgeprune.build import Options, check_sparsity, formats_of, surgeon, versions_of
from edgeprune.calibration import ArrayCache, CalibrationSpec, identity_of, open_evaluator
from edgeprune.compiler.compile_device import plan_for_device
from edgeprune.compiler.compile_on_device import TimingHarness, reach_on_device
from edgeprune.compiler.cpuwork import HOLDOUT_FRACTION, open_cpu
from edgeprune.compiler.cpuwork import TARGET as CPU
from edgeprune.compiler.delivery_device import deliver_measured, deliver_planned, open_shapes
from edgeprune.compiler.devicework import open_device_work
from edgeprune.compiler.prune import prune_model as prune_model
from edgeprune.compiler.recipe import RECIPE, Recipe
from edgeprune.dependency import open_model, picture_of
from edgeprune.devices import Profile, load_profile
from edgeprune.errors import CalibrationError, UsageError
from edgeprune.latency import INT8
from edgeprune.passes.quantize import equalize
from edgeprune.report import Report, write_report
from edgeprune.search import Goal
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
    model = Path(model)
    profile = load_profile(target)
    out = out or model.with_name(f"{model.stem}.{target}")
    check_output(out, force=force)
    goal = _goal(profile, latency_ms, speedup, max_drop, precision, sparsity)
    if profile.name == CPU and (surgery is not None or profile_file is not None):
        raise UsageError("--surgery and --profile are for targets with TensorRT, not for cpu")
    finish = surgeon(surgery)
    board = None if device is None else open_device(device, "onnxruntime" if profile.name == CPU else "tensorrt")
    if calibration is None:
        raise CalibrationError("compile needs calibration data to choose, refit and quantize by: give --calib")
    if profile.name != CPU:
        versions_of(profile)
    if profile.name != CPU or power_mode is not None:
        profile.power_mode(power_mode)
    shapes = shapes or {}
    if profile.name == CPU:
        elsewhere = None if device == LOCAL else device
        cpu = open_cpu(model, goal, calibration, evaluation, shapes, threads, seed, progress, elsewhere)
        with output_folder(out, force=force) as folder:
            return keep_recipe(recipe, cpu.compile(goal, folder, progress), folder)
    opened = open_model(model, shapes, progress)
    data = calibration.open(opened.fixed if calibration.source == "random" and shapes else opened.dense)
    fit, held_out = data.split(HOLDOUT_FRACTION, seed)
    if INT8 in formats_of(precision, profile) and not fit.is_random:  # noise says nothing of what channels reach
        with progress.step("equalizing channels"):
            opened = dataclasses.replace(opened, dense=equalize(opened.dense, fit, symmetric=True, threads=threads))
    runtime = OnnxRuntime(threads)
    with progress.step("scoring the original"):
        evaluator = open_evaluator(evaluation, opened, runtime.load(model).run, held_out)
    known = ArrayCache(identity_of(opened, fit, f"{runtime.device}, {threads} threads"))
    options = Options(precision, sparsity, power_mode, profile_file, threads, seed)
    work = open_device_work(opened, goal, fit, evaluator, profile, known, options, progress, at_hand=board is not None)
    if board is not None:
        measured = reach_on_device(work, goal, TimingHarness(work, board, open_shapes(opened), finish))
        with output_folder(out, force=force) as folder:
            return keep_recipe(recipe, deliver_measured(work, goal, measured, folder, data.describe()), folder)
    planned = plan_for_device(work, goal)
    with output_folder(out, force=force) as folder:
        return keep_recipe(recipe, deliver_planned(work, goal, planned, finish, folder, data.describe()), folder)


def keep_recipe(recipe: Recipe | None, report: Report, folder: Path) -> Report:
    """Write the recipe into the folder and its report, so that the result can be had again."""
    if recipe is None:
        return report
    report = dataclasses.replace(report, recipe=recipe.values, reproduce=recipe.command())
    (folder / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
    write_report(folder, report, picture_of(folder))
    return report


def _goal(
    profile: Profile,
    latency_ms: float | None,
    speedup: float | None,
    max_drop: float | None,
    precision: str,
    sparsity: str,
) -> Goal:
    """What the flags ask for.

    Raises:
        UsageError: they contradict each other or the target.
    """
    if sum(limit is not None for limit in (latency_ms, speedup, max_drop)) > 1:
        raise UsageError("--latency-ms, --speedup and --max-drop are three ways to say the budget: give one")
    if precision not in ("auto", "fp32", "fp16", "int8"):
        raise UsageError(f"--precision {precision!r}: expected auto, fp32, fp16 or int8")
    if precision != "auto" and precision not in profile.precisions:
        raise UsageError(f"target {profile.name} has no {precision}; it computes in {', '.join(profile.precisions)}")
    if sparsity not in ("auto", "none", "2:4"):
        raise UsageError(f"--sparsity {sparsity!r}: expected auto, none or 2:4")
    if sparsity == "2:4" and profile.name == CPU:
        raise UsageError("target cpu gains nothing from 2:4 sparsity: onnxruntime has no sparse kernels")
    if profile.name != CPU:
        check_sparsity(sparsity, precision, profile)
    only_lowered = precision != "auto" and latency_ms is speedup is max_drop is None
    return Goal(latency_ms, speedup, max_drop, prune=not only_lowered, quantize=precision != "fp32")
