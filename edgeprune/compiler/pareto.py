"""``edgeprune compile --pareto``: the curve of speed against accuracy; all points share the same statistics."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgeprune.calibration import statistics_on
from edgeprune.compiler.compile import keep_recipe
from edgeprune.compiler.delivery import deliver
from edgeprune.compiler.recipe import RECIPE, Recipe, recipe_of
from edgeprune.compiler.request import Request
from edgeprune.compiler.rival import beside, measure_rival
from edgeprune.compiler.token_sessions import Sessions, open_sessions
from edgeprune.errors import BudgetError, UsageError
from edgeprune.report import (
    PARETO_FILE,
    Curve,
    ModelFile,
    Point,
    Report,
    Rival,
    comparison_html,
    folder_of,
    open_runs,
    point_of,
)
from edgeprune.support import Progress, output_folder, shared_cores


@shared_cores()
def compile_pareto(
    request: Request,
    speedups: Sequence[float],
    *,
    out: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    recipe: Recipe | None = None,
    rival: str | Path | None = None,
) -> Curve:
    """Compress a model for several speed-ups, and write a folder with their curve and a subfolder for each.

    Points are measured on a CPU or an attached device, and predicted for other targets.

    Args:
        request: the model, its target and how it may be compiled.
        speedups: multiples of the original's speed.
        out: folder to write; ``<model>.<target>`` in the working folder by default.
        force: replace the folder if it exists.
        progress: shows the progress.
        recipe: the flags of this run, with paths relative to ``out``, to be stored with the result; by default the
            arguments of this call.
        rival: a smaller model of the same family, which is timed and scored as it is and stands beside the curve.

    Raises:
        UsageError: flags contradict each other or the target, or the folder exists.
        CalibrationError, EvaluationError: data is missing or does not fit the model.
        ModelError: the model is invalid or not supported.
        BudgetError: none of the speed-ups can be met; the text gives the lowest latency that was found.
        BackendError: a device cannot be reached, or does not accept a model.
    """
    progress = progress or Progress()
    out = Path(out or f"{request.model.stem}.{request.target}")
    recipe = recipe or recipe_of({**vars(request), "pareto": ",".join(map(str, speedups))}).moved_to(out)
    asked = sorted(set(speedups))
    if not asked or asked[0] <= 0:
        raise UsageError("--pareto takes speed-ups above 0, separated by commas, such as 1.5,2,3")
    if request.precision == "int8":
        raise UsageError("--pareto chooses the precision for each speed-up: leave out --precision int8")
    request.check_room(out, force=force)
    request.check()
    with statistics_on(request.stats_device, progress.note), output_folder(out, force=force) as folder:
        sessions = open_sessions(request, request.goal(None, asked[0], None), progress)
        session = sessions.whole
        common = dict(progress.seconds), dict(progress.processor_s)
        other = None if rival is None else measure_rival(request, session, Path(rival))
        found = [_point(sessions, request, speedup, folder, recipe, common, other) for speedup in asked]
        points = tuple(point for point, _ in found)
        first = next((report for _, report in found if report is not None), None)
        if first is None:
            raise BudgetError(points[0].reason)
        curve = Curve(
            target=session.target,
            model=ModelFile(session.opened.path.name, session.opened.sha256),
            device=first.latency.device if first.latency else f"{request.profile.title}, not attached",
            runtime=first.latency.runtime if first.latency else "TensorRT, predicted",
            threads=request.threads if request.runs_on.on_cpu else None,
            seed=request.seed,
            calibration=session.conditions.calibration,
            points=points,
            rival=other,
        )
        (folder / PARETO_FILE).write_text(curve.to_json(), encoding="utf-8")
        (folder / "report.html").write_text(comparison_html(*open_runs([folder])), encoding="utf-8")
        (folder / RECIPE).write_text(recipe.to_toml(), encoding="utf-8")
        return curve


def _point(
    sessions: Sessions,
    request: Request,
    asked: float,
    folder: Path,
    recipe: Recipe,
    common: tuple[Mapping[str, float], Mapping[str, float]],
    rival: Rival | None,
) -> tuple[Point, Report | None]:
    """One speed-up; if it cannot be met with a result of use, the point says why and has no report and no folder.

    ``common`` has the seconds and processor seconds of the steps that all points share; each point's report has these
    and its own.
    """
    goal, progress = request.goal(None, asked, None), sessions.whole.progress
    progress.seconds, progress.processor_s = map(dict, common)
    place = folder / folder_of(asked)
    try:
        session, reached = sessions.reach(goal)
        place.mkdir()
        delivered = beside(deliver(session, goal, reached, place), rival)
    except BudgetError as error:  # the speed cannot be reached, or the result is below the floor of usefulness
        shutil.rmtree(place, ignore_errors=True)
        progress.note(f"{asked:g}x: {error}")
        return Point(asked, False, str(error)), None
    report = keep_recipe(_of_point(recipe, asked), delivered, place)
    return point_of(asked, place.name, report), report


def _of_point(recipe: Recipe, asked: float) -> Recipe:
    """The recipe of a single point, with paths relative to the point's folder."""
    values = {name: value for name, value in recipe.values.items() if name != "pareto"} | {"speedup": asked}
    return dataclasses.replace(recipe, values=values).moved_to(recipe.folder / folder_of(asked))
