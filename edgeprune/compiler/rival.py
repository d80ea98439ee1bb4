"""``compile --rival``: a smaller model of the same family, as it is, for the same target and by the same evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import Run, is_fidelity
from edgeprune.compiler.open_session import open_session
from edgeprune.compiler.pipeline import reach
from edgeprune.compiler.request import Request
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.timer import ORIGINAL
from edgeprune.errors import EdgepruneError
from edgeprune.report import Accuracy, Report, Rival
from edgeprune.search import Goal


def measure_rival(request: Request, session: CompileSession, file: Path) -> Rival:
    """The latency of a rival in its fastest precision, and its accuracy as a substitute for a session's original.

    Args:
        request: for the large model; the rival is opened with the same data, target and device.
        session: of the large model, whose evaluator scores the rival.
        file: the rival.

    Raises:
        UsageError, ModelError, BackendError: the rival cannot be opened, or not for this target.
    """
    wanted = replace(
        request,
        model=file,
        profile_file=None,
        surgery=None,
        tokens="none",
        recover="none",
        explain_loss=False,
        all_int8=False,
        tune_placement=None,
        shapes=_fitting(request.shapes, graph.load(file)),
    )
    quantize = request.goal(None, None, None).quantize
    goal = Goal(prune=False, quantize=quantize)
    progress = session.progress
    progress.note(f"the rival {file.name}, as it is:")
    _, mine = open_session(wanted, goal, progress)
    reached = reach(mine, goal)
    original = reached.returned == ORIGINAL
    run = OnnxRuntime(request.threads).load(mine.opened.scored).run if original else mine.scores.run_of(reached.model)
    measured = reached.timed.measured
    latency_ms = reached.candidate.latency_us / 1e3 if measured is None else measured[reached.returned].median_ms
    variant = reached.outcome.variant.removeprefix("unpruned-")
    with progress.step("scoring the rival"):
        accuracy, why = _accuracy(session, run)
    return Rival(file.name, mine.opened.sha256, variant, latency_ms, measured is not None, accuracy, why)


def _fitting(shapes: Mapping[str, Sequence[int]], model: ir.Model) -> dict[str, Sequence[int]]:
    """The sizes of ``--shape`` that the rival's inputs can have; it may have other inputs, or fixed sizes."""
    inputs = {str(value.name): tuple(value.shape or ()) for value in graph.data_inputs(model)}

    def fits(name: str, sizes: Sequence[int]) -> bool:
        own = inputs.get(name, ())
        return len(own) == len(sizes) and all(
            not isinstance(fixed, int) or fixed == size for fixed, size in zip(own, sizes, strict=True)
        )

    return {name: sizes for name, sizes in shapes.items() if fits(name, sizes)}


def beside(report: Report, rival: Rival | None) -> Report:
    """The report with the rival, and a sentence that says which of the two wins."""
    if rival is None:
        return report
    if report.latency is not None:
        latency_ms = report.latency.result.median_ms
    else:
        assert report.predicted is not None  # a compile measures or predicts
        latency_ms = report.predicted.result_ms
    said = rival.sentence(latency_ms, report.accuracy)
    return replace(report, rival=rival, warnings=(said, *report.warnings))


def _accuracy(session: CompileSession, run: Run) -> tuple[Accuracy | None, str]:
    """The rival's accuracy by the large model's evaluation, or why there is none."""
    evaluator = session.evaluator
    try:
        if is_fidelity(evaluator) and (why := _other_outputs(session, run)):
            return None, why
        return replace(evaluator.accuracy(run), outputs=()), ""
    except EdgepruneError as error:
        return None, str(error)


def _other_outputs(session: CompileSession, run: Run) -> str:
    """Why the outputs cannot be compared with those of the large original; empty if they can."""
    agreement = session.evaluator.agreement
    feeds: Mapping[str, NDArray[Any]] = next(iter(agreement.held_out.batches()))
    sizes: list[list[Sequence[int]]] = [
        [array.shape for array in one(dict(feeds))] for one in (agreement.reference, run)
    ]
    if len(sizes[0]) != len(sizes[1]):
        return f"it has {len(sizes[1])} outputs, the original {len(sizes[0])}"
    different = [name for name, a, b in zip(agreement.outputs.names, *sizes, strict=True) if a != b]
    return f"its output {different[0]!r} has other sizes than the original's" if different else ""
