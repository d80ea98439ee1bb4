"""What a compile for a GPU hands over: the lowered model, and what was measured of it or how to confirm it there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.backends import tensorrt_rtx
from edgeprune.build import LayerPlan, bench_line, command_for, write_verify_script
from edgeprune.calibration import is_fidelity
from edgeprune.compiler.assemble import describe_formats, plan_of, refusals_of, sizes_of
from edgeprune.compiler.compile_device import NEVER_SLOWER, Planned, is_cut
from edgeprune.compiler.compile_on_device import ORIGINAL, RESULT, Measured
from edgeprune.compiler.devicework import DeviceWork
from edgeprune.compiler.layer_details import layers_of_result
from edgeprune.dependency import OpenedModel, picture
from edgeprune.errors import BackendError
from edgeprune.latency import INT8, is_int8, is_sparse
from edgeprune.report import (
    Accuracy,
    Budget,
    Latency,
    ModelFile,
    Outcome,
    Prediction,
    Report,
    installed_versions,
    write_report,
)
from edgeprune.search import DEFAULT_MAX_DROP, Candidate, Goal, stays_float
from edgeprune.support import Progress
from edgeprune.timing import ratio

ENGINE = "model.engine"
OFF_PREDICTION = 0.10


def deliver_planned(
    work: DeviceWork,
    goal: Goal,
    planned: Planned,
    finish: Callable[[ir.Model], ir.Model],
    folder: Path,
    calibration: str,
) -> Report:
    """Fill the output folder with what is predicted to be best, and return its report.

    Raises:
        BackendError: TensorRT for RTX is installed and builds the original, but not the lowered model.
    """
    opened, shapes = work.opened, open_shapes(work.opened)
    model = finish(planned.model)
    notes = [*planned.notes, *_proof(opened, model, shapes, work.progress)]
    predicted_ms = planned.candidate.latency_us / 1e3
    with work.progress.step("writing"):
        _write_models(work, planned.candidate, planned.model, model, work.baseline_us / 1e3, folder)
        command, bench = command_for(model, work.profile, shapes), bench_line(work.profile, shapes)
        write_verify_script(folder, command, bench, work.profile, predicted_ms, work.latency.error)
    with work.progress.step("scoring the result"):
        accuracy = work.accuracy(planned.candidate)
    report = _report(
        work,
        goal,
        planned.candidate,
        _outcome(work, planned, goal),
        accuracy,
        folder,
        calibration,
        [
            *notes,
            *_warnings(work, goal, planned.candidate, accuracy),
            f"to measure it, on the device: {command}",
            f"or from here: {bench}",
        ],
    )
    write_report(folder, report, picture(opened.analysis))
    return report


def deliver_measured(work: DeviceWork, goal: Goal, measured: Measured, folder: Path, calibration: str) -> Report:
    """Fill the output folder with what measured best on the device, its engine with it, and return its report."""
    original, result = measured.results[ORIGINAL], measured.results[measured.returned]
    candidate = measured.candidate
    returns_original = measured.returned == ORIGINAL
    with work.progress.step("writing"):
        lowered = work.builder.build(candidate.widths, candidate.formats)
        baseline_ms = original.latency.median_ms
        _write_models(work, candidate, lowered, measured.model, baseline_ms, folder, original=returns_original)
        if result.engine is not None:
            (folder / ENGINE).write_bytes(result.engine)
    with work.progress.step("scoring the result"):
        accuracy = work.original_accuracy() if returns_original else work.accuracy(candidate)
    others = [name for name in measured.results if name not in (ORIGINAL, RESULT)]
    latency = Latency(
        result.device,
        ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        None,
        original.latency,
        result.latency,
        ratio(original.latency, result.latency),
        {name: measured.latency(name) for name in others},
    )
    notes = [*work.notes, *_warnings(work, goal, candidate, accuracy), *_measured_notes(candidate, measured)]
    report = _report(work, goal, candidate, measured.outcome, accuracy, folder, calibration, notes, latency)
    write_report(folder, report, picture(work.opened.analysis))
    return report


def open_shapes(opened: OpenedModel) -> dict[str, tuple[int, ...]]:
    """Sizes of the inputs that leave some open, as the model was planned for."""
    fixed = {str(v.name): v.shape for v in opened.fixed.graph.inputs}
    return {
        str(v.name): tuple(int(str(d)) for d in fixed[str(v.name)] or ())
        for v in opened.dense.graph.inputs
        if v.shape is not None and not all(isinstance(d, int) for d in v.shape)
    }


def _write_models(
    work: DeviceWork,
    candidate: Candidate,
    lowered: ir.Model,
    model: ir.Model,
    baseline_ms: float,
    folder: Path,
    *,
    original: bool = False,
) -> None:
    graph.save(work.opened.dense, folder / "dense.onnx")
    graph.save(model, folder / "model.onnx")
    plan_of(
        work.opened,
        work.profile.name,
        {} if original else work.builder.cut(candidate.widths),
        _layers(work, candidate, lowered),
        baseline_ms=baseline_ms,
        predicted_ms=candidate.latency_us / 1e3,
        seed=work.options.seed,
    ).save(folder / "plan.json")


def _report(
    work: DeviceWork,
    goal: Goal,
    candidate: Candidate,
    outcome: Outcome,
    accuracy: Accuracy,
    folder: Path,
    calibration: str,
    warnings: Sequence[str],
    latency: Latency | None = None,
) -> Report:
    opened = work.opened
    met = goal.is_met(latency.baseline, latency.result) if latency is not None and goal.has_budget else None
    problem = work.problem if is_cut(work, candidate) else work.uncut
    return Report(
        command="compile",
        target=work.profile.name,
        model=ModelFile(opened.path.name, opened.sha256),
        outcome=outcome,
        budget=Budget(goal.latency_ms, goal.speedup, goal.max_drop, met),
        latency=latency,
        predicted=Prediction(work.baseline_us / 1e3, candidate.latency_us / 1e3, work.source, work.latency.error),
        accuracy=accuracy,
        sizes=sizes_of(opened, graph.load(folder / "model.onnx"), folder / "model.onnx"),
        versions=installed_versions(),
        seconds=work.progress.seconds,
        seed=work.options.seed,
        calibration=calibration,
        layers=layers_of_result(work.gpu.network, work.latency, problem, candidate),
        refused=refusals_of(opened.analysis),
        warnings=tuple(warnings),
    )


def _layers(work: DeviceWork, candidate: Candidate, lowered: ir.Model) -> list[LayerPlan]:
    """Precisions as the lowered graph states them; the predicted time of a launch stands at its leading node."""
    model = work.builder.float_model(candidate.widths)
    int8 = work.builder.int8_nodes(model, candidate.formats)
    sparse = work.builder.sparse_nodes(model, candidate.formats)
    half = {n.name for n in lowered.graph if any(o.dtype == ir.DataType.FLOAT16 for o in n.outputs)}
    times = {
        block.anchor: work.latency.block_us(b, candidate.formats[b], candidate.widths)
        for b, block in enumerate(work.gpu.network.blocks)
    }
    return [
        LayerPlan(
            str(n.name),
            n.op_type,
            INT8 if n.name in int8 else "fp16" if n.name in half else "fp32",
            "2:4" if n.name in sparse else "dense",
            times.get(str(n.name)),
        )
        for n in model.graph
    ]


def _proof(
    opened: OpenedModel, model: ir.Model, shapes: Mapping[str, tuple[int, ...]], progress: Progress
) -> list[str]:
    """What a real builder says of the graph, where one is installed."""
    if not tensorrt_rtx.is_installed():
        return []
    if any(node.domain not in ("", "ai.onnx") for node in model.graph):
        return ["TensorRT for RTX has no plugins, so what surgery added could not be built here"]
    with progress.step("building with TensorRT for RTX"):
        try:
            engine = tensorrt_rtx.build(model, shapes=shapes)
        except BackendError as error:
            refused = str(error)
            try:
                tensorrt_rtx.build(opened.dense, shapes=shapes)
            except BackendError:
                return [f"not even the original can be built here, which proves nothing of the device: {refused}"]
            raise BackendError(f"the original can be built, but not the lowered model: {refused}") from error
    return [
        f"TensorRT for RTX {engine.version} built the lowered graph here ({engine.layers} layers): that "
        f"{tensorrt_rtx.PROOF}"
    ]


def _outcome(work: DeviceWork, planned: Planned, goal: Goal) -> Outcome:
    formats = describe_formats(planned.candidate.formats)
    if planned.cut:
        best = min(planned.variants, key=lambda name: planned.variants[name].latency_us)
        reason = (
            f"Widths and precision were chosen together: launches {formats}; predicted {planned.gain:.2f}x as fast as "
            f"the unpruned {best} variant."
        )
        return Outcome("compressed", planned.gain >= NEVER_SLOWER, _with_margin(reason, work, planned, goal))
    integers = any(is_int8(f) for f in planned.candidate.formats)
    kind = f"unpruned-{INT8 if integers else work.floating}"
    reason = f"Nothing was cut: launches {formats}."
    return Outcome(kind, not goal.has_budget and not goal.prune, _with_margin(reason, work, planned, goal))


def _with_margin(reason: str, work: DeviceWork, planned: Planned, goal: Goal) -> str:
    if not goal.has_budget:
        return reason
    budget_ms = (goal.budget_us(work.baseline_us) or 0.0) / 1e3
    return (
        f"{reason} By the prediction, with the profile's error of {planned.margin - 1:.0%} as margin, it keeps the "
        f"budget of {budget_ms:.4g} ms; only the device can tell."
    )


def _warnings(work: DeviceWork, goal: Goal, candidate: Candidate, accuracy: Accuracy) -> list[str]:
    found = []
    if work.options.precision == INT8 and (why := stays_float(candidate, work.latency, work.gpu.latency, work.source)):
        found.append(why)
    if not goal.prune and goal.max_drop is None and accuracy.drop > DEFAULT_MAX_DROP:
        found.append(f"this precision costs {accuracy.drop:.2f} points; --max-drop limits that")
    if is_fidelity(work.evaluator):
        found.append("accuracy was not measured: without --eval, agreement with the original stands in for it")
    return found


def _measured_notes(candidate: Candidate, measured: Measured) -> list[str]:
    """What a reader of the measurement should know."""
    result = measured.results[measured.returned]
    found = []
    off = candidate.latency_us / 1e3 / result.latency.median_ms - 1
    if measured.returned == RESULT and abs(off) > OFF_PREDICTION:
        found.append(f"the prediction of {candidate.latency_us / 1e3:.3g} ms is off by {off:+.0%}")
    if result.clocks and result.clocks != "locked":
        found.append(f"the device's clocks were not locked while it measured: {result.clocks}")
    if any(is_sparse(f) for f in candidate.formats):
        found.append("engines were built with 2:4 products allowed; the builder took them where they were faster")
    return found
