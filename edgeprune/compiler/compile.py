"""``edgeprune compile``: check the request, open a session, search and build, deliver."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.calibration import CalibrationData, as_spec, statistics_on
from edgeprune.compiler.delivery import deliver
from edgeprune.compiler.recipe import AGAIN, RECIPE, Recipe, recipe_of
from edgeprune.compiler.request import Request
from edgeprune.compiler.rival import beside, measure_rival
from edgeprune.compiler.token_sessions import open_sessions
from edgeprune.dependency import picture_of
from edgeprune.outputs import Choice
from edgeprune.report import Report, write_report
from edgeprune.support import Progress, output_folder, shared_cores


@shared_cores()
def compile_model(
    model: str | Path,
    target: str,
    *,
    latency_ms: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    calibration: CalibrationData | None = None,
    evaluation: str | Path | None = None,
    out: str | Path | None = None,
    precision: str = "auto",
    sparsity: str = "auto",
    power_mode: str | None = None,
    device: str | Sequence[str] | None = None,
    profile_file: str | Path | None = None,
    surgery: str | Path | None = None,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    accept_loss: bool = False,
    explain_loss: bool = False,
    force: bool = False,
    seed: int = 0,
    choice: Choice | None = None,
    tokens: str = "auto",
    rank: str = "auto",
    embedding: str = "auto",
    progress: Progress | None = None,
    recipe: Recipe | None = None,
    runtime: str | None = None,
    recover: str | float = "fast",
    rival: str | Path | None = None,
    builds: int = 1,
    timing_cache: str | Path | None = None,
    tune_placement: float | None = None,
    max_energy_mj: float | None = None,
    max_memory_mb: float | None = None,
    p99_ms: float | None = None,
    stats_device: str = "cpu",
    all_int8: bool = False,
) -> Report:
    """Compress a model for a target within a budget, measure it, and write the folder of a compile.

    Args:
        model: the ONNX file.
        target: device name.
        latency_ms: budget in milliseconds.
        speedup: budget as a multiple of the original's speed.
        max_drop: the goal is the fastest model that loses at most this many points of accuracy, or of the fidelity
            of each output. Beside ``latency_ms`` or ``speedup``: a result that loses more is refused.
        calibration: samples for the search, the refit and the quantization: a `CalibrationSpec`, the value of
            ``--calib``, or input name -> its source.
        evaluation: the value of ``--eval``; without one, fidelity to the original is computed instead of accuracy.
        out: folder to write; ``<model>.<target>`` in the working folder by default.
        precision: ``auto``, ``fp32``, ``fp16`` or ``int8``.
        sparsity: ``auto``, ``none`` or ``2:4``.
        power_mode: of the target, if it has power modes; the fastest by default.
        device: address of the target: ``local``, or ``ssh://user@host[:port]``; without it a GPU's latency is
            predicted. Several boards of one kind are measured at the same time, and their median counts.
        profile_file: the device's measurements of the model; by default the stored ones, if there are any.
        surgery: changes the lowered graph before its engine is built; see `edgeprune.build.surgery`.
        threads: of the runtime, on a CPU.
        shapes: input name -> dimensions, for inputs with dynamic dimensions.
        accept_loss: write the result even if its outputs are too far from the original's to be of use.
        explain_loss: find what the loss comes from: build and score the result with one thing taken back at a time.
        force: replace the folder if it exists.
        seed: of all random numbers.
        tokens: ``auto``, ``none``, or the one setting by which tokens of a transformer may leave: ``tome``, ``saint``,
            ``dart`` or ``bavit``.
        rank: ``auto``, or ``none`` if no layer may become two of low rank.
        embedding: ``auto``, or ``none`` if the residual stream of a transformer keeps all its channels.
        choice: which outputs count, and how they are compared.
        progress: shows the progress.
        runtime: what runs the result on a CPU: ``onnxruntime``, ``openvino``, or ``auto`` for the faster of those that
            are installed; by default the first of the target.
        recover: how accuracy is recovered: ``none``, ``fast`` (weights are learned in seconds), or the minutes for
            which the network is trained as it is deployed, with PyTorch.
        recipe: the flags of this run, relative to ``out``, to be stored with the result; by default the arguments of
            this call.
        rival: a smaller model of the same family, which is timed and scored as it is and stands beside the result.
        builds: engines of the result, and of what it is compared with, that are built and timed on the device.
        timing_cache: file of a timing cache by which all engines are built there; it is made if there is none.
        max_energy_mj: the largest energy of an inference above idling, millijoules: measured, else predicted.
        max_memory_mb: the most memory of weights and activations, megabytes: measured on the device, else counted.
        p99_ms: the largest 99th percentile of single runs, milliseconds; the median where nothing is measured.
        tune_placement: minutes for which the device measures which kernels are faster in INT8 than in float.
        stats_device: what computes the statistics: ``cpu`` (onnxruntime), ``torch`` (PyTorch on the processor), or
            ``cuda``.
        all_int8: with ``precision="int8"`` and no budget: also layers that INT8 makes slower, or that lose by it.

    Raises:
        UsageError: flags contradict each other or the target, or the folder exists.
        CalibrationError, EvaluationError: data is missing or does not fit the model.
        ModelError: the model is invalid or not supported.
        BudgetError: the budget can't be met, or the result lost too much to be of use; the text offers other budgets.
        BackendError: TensorRT does not build the result, or the statistics' device is not there.
    """
    arguments = dict(locals())
    progress = progress or Progress()
    request = Request(
        Path(model),
        target,
        as_spec(calibration),
        None if evaluation is None else str(evaluation),
        precision,
        sparsity,
        power_mode,
        device if device is None or isinstance(device, str) else tuple(device),
        None if profile_file is None else Path(profile_file),
        None if surgery is None else str(surgery),
        threads,
        shapes or {},
        seed,
        accept_loss,
        explain_loss,
        choice or Choice(),
        runtime,
        tokens,
        rank,
        embedding,
        str(recover),
        stats_device,
        all_int8,
        builds,
        None if timing_cache is None else Path(timing_cache),
        tune_placement,
    )
    out = Path(out or f"{request.model.stem}.{target}")
    recipe = recipe or recipe_of(arguments | {"calibration": request.calibration}).moved_to(out)
    request.check_room(out, force=force)
    request.check()
    limits = {"max_energy_mj": max_energy_mj, "max_memory_mb": max_memory_mb, "p99_ms": p99_ms}
    goal = request.goal(latency_ms, speedup, max_drop, **limits)
    if (plan := goal.without_budget) is not None:
        progress.note(plan)
    with statistics_on(request.stats_device, progress.note):
        sessions = open_sessions(request, goal, progress)
        # Before the search: a rival that cannot be opened is refused at once.
        other = None if rival is None else measure_rival(request, sessions.whole, Path(rival))
        session, reached = sessions.reach(goal)
        with output_folder(out, force=force) as folder:
            return keep_recipe(recipe, beside(deliver(session, goal, reached, folder), other), folder)


def keep_recipe(recipe: Recipe, report: Report, folder: Path) -> Report:
    """Write the recipe into the folder and its report, so that the result can be reproduced."""
    report = dataclasses.replace(report, recipe=recipe.values, reproduce=recipe.command(out=AGAIN))
    (folder / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
    write_report(folder, report, picture_of(folder))
    return report
