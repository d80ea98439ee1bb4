"""``gate --device``: runs the engine of a report's folder on the device, on the samples that its compile held out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprune.cli.options import calibration_of
from edgeprune.dependency import file_digest
from edgeprune.devices import load_profile
from edgeprune.errors import UsageError
from edgeprune.report import Report
from edgeprune.support import Progress, write_text

if TYPE_CHECKING:
    from edgeprune.compiler import Request

ENGINE, MODEL = "model.engine", "model.onnx"


def judge_again(
    folder: Path, report: Report, device: str | tuple[str, ...], timing_cache: Path | None, progress: Progress
) -> Report:
    """The report with what its engine computes now on a device, and what it loses by the evaluation of the compile.

    The engine of the folder is run, as it is deployed; without one, it is built there from ``model.onnx``.

    Args:
        folder: of the result, as compile wrote it, or the report.json in it; the report in it is updated.
        report: that of the folder, for a target with TensorRT.
        device: where the engine runs; of several boards the first.
        timing_cache: by which an engine is built, if there is none.
        progress: shows the progress.

    Raises:
        UsageError: the folder has no model or no recipe, the original is gone or another one, surgery changed the
            outputs, or boards differ.
        BackendError: the device cannot be reached, or does not run the engine.
    """
    from edgeprune.backends import EngineDevice, open_device
    from edgeprune.compiler import open_model_and_data, open_shapes
    from edgeprune.engine_check import Subject, check_engine
    from edgeprune.graph import load
    from edgeprune.search import Goal

    folder = folder.parent if folder.name == "report.json" else folder
    if not (folder / MODEL).is_file() or report.recipe is None:
        raise UsageError(f"--device judges the engine of a result: give the folder of compile, not {str(folder)!r}")
    request = _request(folder)
    if not request.model.is_file() or file_digest(request.model) != report.model.sha256:
        raise UsageError(f"--device: {str(request.model)!r} is not the model that was compiled")
    board = open_device(device, request.runs_on.name, timing_cache=timing_cache)
    assert isinstance(board, EngineDevice)  # what `open_device` gives for TensorRT
    board.facts()  # before all work: whether all boards can be reached, and are alike
    opening = open_model_and_data(request, Goal(prune=False, quantize=False), progress)
    model, fed = load(folder / MODEL), opening.evaluator.agreement
    if len(model.graph.outputs) != len(fed.outputs.names):
        raise UsageError("--device: surgery changed the outputs of the model, so its engine cannot be judged")
    engine = (folder / ENGINE).read_bytes() if (folder / ENGINE).is_file() else None
    shapes = open_shapes(opening.opened)
    subject = Subject(board, model, engine, fed.held_out, fed.outputs, shapes, progress, request.threads)
    found = replace(report, engine=check_engine(subject, opening.evaluator))
    write_text(folder / "report.json", found.to_json())
    return found


def has_engines(report: Report) -> bool:
    """Whether the report is for a target with TensorRT."""
    return not load_profile(report.target).runtime().on_cpu


def _request(folder: Path) -> Request:
    """The request of the compile that wrote a folder, by the command line's own reading of its recipe."""
    from edgeprune.compiler import Request
    from edgeprune.outputs import Choice

    root = click.get_current_context().find_root()
    assert isinstance(root.command, click.Group)
    compile_command = root.command.commands["compile"]
    with compile_command.make_context("compile", ["--recipe", str(folder / "report.json")], parent=root) as parsed:
        given: dict[str, Any] = dict(parsed.params)
    return Request(
        Path(given["model"]),
        given["target"],
        calibration_of(given),
        given["evaluation"],
        "fp32",  # nothing is quantized anew
        threads=given["threads"],
        shapes=given["shapes"],
        seed=given["seed"],
        choice=Choice.parse(given["outputs"], given["fidelity"]),
    )
