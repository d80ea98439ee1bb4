"""``edgeprune compile --pareto``: the curve of speed against accuracy, every statistic computed once for all points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.calibration import CalibrationSpec
from edgeprune.compiler.compile import keep_recipe
from edgeprune.compiler.cpuwork import TARGET, CpuWork, open_cpu
from edgeprune.compiler.recipe import RECIPE, Recipe
from edgeprune.devices import load_profile
from edgeprune.errors import BudgetError, CalibrationError, UsageError
from edgeprune.report import PARETO_FILE, Curve, ModelFile, Point, comparison_html, folder_of, open_runs, point_of
from edgeprune.search import Goal
from edgeprune.support import Progress, check_output, output_folder, shared_cores


@shared_cores()
def compile_pareto(
    model: Path,
    target: str,
    speedups: Sequence[float],
    *,
    calibration: CalibrationSpec | None = None,
    evaluation: str | None = None,
    out: Path | None = None,
    quantize: bool = True,
    threads: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    force: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
) -> Curve:
    """Compress a model for several speed-ups, and write a folder with a folder for each and their curve.

    Args:
        model: the ONNX file.
        target: ``cpu``: a curve is measured, so the device must be at hand.
        speedups: multiples of the original's speed.
        calibration: samples to choose by, refit and quantize with.
        evaluation: what ``--eval`` names; fidelity to the original stands in where there is none.
        out: folder to write; ``<model>.<target>`` beside the model by default.
        quantize: whether integers may be used.
        threads: of the runtime.
        shapes: input name -> dimensions, for inputs that leave some open.
        force: replace the folder if it exists.
        seed: of everything random.
        progress: told how far it is.
        recipe: the flags that this comes from, as they read from ``out``, to be kept with the result.

    Raises:
        UsageError: a flag does not fit, or the folder exists.
        CalibrationError, EvaluationError: data is missing or does not fit.
        ModelError: the model is invalid or cannot be worked on.
        BudgetError: none of the speed-ups can be met; the text says what can.
    """
    progress = progress or Progress()
    model = Path(model)
    out = out or model.with_name(f"{model.stem}.{target}")
    asked = sorted(set(speedups))
    if not asked or asked[0] <= 0:
        raise UsageError("--pareto takes speed-ups above 0 with commas between, such as 1.5,2,3")
    if load_profile(target).name != TARGET:
        raise UsageError(f"--pareto measures every point, which needs the device at hand: --target {TARGET}")
    check_output(out, force=force)
    if calibration is None:
        raise CalibrationError("compile needs calibration data to choose, refit and quantize by: give --calib")
    may = Goal(quantize=quantize)
    work = open_cpu(model, may, calibration, evaluation, shapes or {}, threads, seed, progress)
    common = dict(progress.seconds)
    with output_folder(out, force=force) as folder:
        points = [_point(work, Goal(speedup=s, quantize=quantize), s, folder, recipe, progress, common) for s in asked]
        if not any(p.met for p in points):
            raise BudgetError(points[0].reason)
        machine = work.machine
        curve = Curve(
            target=TARGET,
            model=ModelFile(work.opened.path.name, work.opened.sha256),
            device=machine.device,
            runtime=machine.runtime,
            threads=threads,
            seed=seed,
            calibration=machine.calibration,
            points=tuple(points),
        )
        (folder / PARETO_FILE).write_text(curve.to_json(), encoding="utf-8")
        (folder / "report.html").write_text(comparison_html(*open_runs([folder])), encoding="utf-8")
        if recipe is not None:
            (folder / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
        return curve


def _point(
    work: CpuWork,
    goal: Goal,
    asked: float,
    folder: Path,
    recipe: Recipe | None,
    progress: Progress,
    common: Mapping[str, float],
) -> Point:
    """One speed-up; where it cannot be met the curve goes on without it.

    ``common`` are the seconds of the steps that all points share; each point's report has these and its own.
    """
    progress.seconds = dict(common)
    place = folder / folder_of(asked)
    place.mkdir()
    try:
        report = work.compile(goal, place, progress)
    except BudgetError as error:
        place.rmdir()
        progress.note(f"{asked:g}x: {error}")
        return Point(asked, False, str(error))
    return point_of(asked, place.name, keep_recipe(_of_point(recipe, asked), report, place))


def _of_point(recipe: Recipe | None, asked: float) -> Recipe | None:
    """The recipe of one point alone, as it reads from the point's folder."""
    if recipe is None:
        return None
    values = {name: value for name, value in recipe.values.items() if name != "pareto"} | {"speedup": asked}
    return dataclasses.replace(recipe, values=values).moved_to(recipe.folder / folder_of(asked))
