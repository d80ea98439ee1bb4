"""What a compile for a device that is not at hand hands over: the lowered model, and how to confirm it there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from edgeprune import graph
from edgeprune.analyticmodel import INT8
from edgeprune.assemble import describe_formats, plan_of, refusals_of, sizes_of
from edgeprune.backends import simulation, tensorrt_rtx
from edgeprune.backends.trtexec import Version, single_command, typing_of
from edgeprune.compile_device import NEVER_SLOWER, Planned
from edgeprune.drawing import picture
from edgeprune.errors import BackendError
from edgeprune.goal import DEFAULT_MAX_DROP, Goal
from edgeprune.job import Job
from edgeprune.judge import Judge, is_fidelity
from edgeprune.layerdetail import layers_of_result
from edgeprune.plan import LayerPlan
from edgeprune.progress import Progress
from edgeprune.report.files import write_report
from edgeprune.report.model import Accuracy, Budget, ModelFile, Outcome, Prediction, Report, installed_versions
from edgeprune.targets import Profile

VERIFY = "verify.sh"
_PLACES = "/usr/src/tensorrt/bin"


def deliver_planned(
    job: Job,
    goal: Goal,
    planned: Planned,
    judge: Judge,
    profile: Profile,
    folder: Path,
    *,
    threads: int,
    seed: int,
    calibration: str,
    progress: Progress,
) -> Report:
    """Fill the output folder, and return its report.

    Raises:
        BackendError: TensorRT for RTX is installed and builds the original, but not the lowered model.
    """
    shapes = open_shapes(job)
    notes = [*planned.notes, *_proof(job, planned.model, shapes, progress)]
    predicted_ms = planned.choice.latency_us / 1e3
    with progress.step("writing"):
        graph.save(job.dense, folder / "dense.onnx")
        graph.save(planned.model, folder / "model.onnx")
        plan_of(
            job,
            profile.name,
            planned.builder.cut(planned.choice.widths),
            _layers(planned),
            baseline_ms=planned.baseline_us / 1e3,
            predicted_ms=predicted_ms,
            seed=seed,
        ).save(folder / "plan.json")
        command, bench = command_for(planned.model, profile, shapes), bench_line(profile, shapes)
        script = verify_script(command, bench, predicted_ms, planned.gpu.latency.error)
        (folder / VERIFY).write_text(script, encoding="utf-8")
        (folder / VERIFY).chmod(0o755)
    with progress.step("scoring the result"):
        accuracy = judge.accuracy(simulation.load(planned.model, threads).run)
    report = Report(
        command="compile",
        target=profile.name,
        model=ModelFile(job.path.name, job.sha256),
        outcome=_outcome(planned, goal),
        budget=Budget(goal.latency_ms, goal.speedup, goal.max_drop, None),
        predicted=Prediction(planned.baseline_us / 1e3, predicted_ms, "analytic", planned.gpu.latency.error),
        accuracy=accuracy,
        sizes=sizes_of(job, planned.model, folder / "model.onnx"),
        versions=installed_versions(),
        seconds=progress.seconds,
        seed=seed,
        calibration=calibration,
        layers=layers_of_result(planned.gpu.network, planned.gpu.latency, planned.problem, planned.choice),
        refused=refusals_of(job.analysis),
        warnings=(
            *notes,
            *_warnings(planned, goal, accuracy, judge),
            f"to measure it, on the device: {command}",
            f"or from here: {bench}",
        ),
    )
    write_report(folder, report, picture(job.analysis))
    return report


def open_shapes(job: Job) -> dict[str, tuple[int, ...]]:
    """Sizes of the inputs that leave some open, as the model was planned for."""
    fixed = {str(v.name): v.shape for v in job.fixed.graph.inputs}
    return {
        str(v.name): tuple(int(str(d)) for d in fixed[str(v.name)] or ())
        for v in job.dense.graph.inputs
        if v.shape is not None and not all(isinstance(d, int) for d in v.shape)
    }


def command_for(model: ir.Model, profile: Profile, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The trtexec command, quoted for a shell, that builds ``model.onnx`` on the device and times it."""
    version = Version(*(int(part) for part in profile.tensorrt[-1].split(".")))
    command = single_command(version, typing_of(model), sparse=False)
    if shapes:
        stated = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
        command += [f"--{which}Shapes={stated}" for which in ("min", "opt", "max")]
    return shlex.join(command)


def bench_line(profile: Profile, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The ``edgeprune bench`` command that holds the result against the dense model on the device, over SSH."""
    stated = [f"--shape={name}={'x'.join(map(str, shape))}" for name, shape in shapes.items()]
    command = ["edgeprune", "bench", "dense.onnx", "model.onnx", "--target", profile.name]
    return shlex.join([*command, "--device", "ssh://USER@DEVICE", *stated])


def verify_script(command: str, bench: str, predicted_ms: float, error: float) -> str:
    """A shell script to run beside ``model.onnx`` on the device."""
    return "\n".join(
        [
            "#!/bin/sh",
            "# Builds model.onnx with TensorRT's trtexec on the device that it was compiled for, and times it there.",
            f"# Predicted, not measured: {predicted_ms:.4g} ms, typical error {error:.0%}. Compare it with the",
            '# median of "GPU Compute Time". For steady figures lock the clocks first: sudo jetson_clocks',
            "# From another machine, where edgeprune is installed:",
            f"#   {bench}",
            "set -eu",
            'cd "$(dirname "$0")"',
            f'PATH="$PATH:{_PLACES}"',
            f"exec {command}",
            "",
        ]
    )


def _layers(planned: Planned) -> list[LayerPlan]:
    """Precisions as the lowered graph states them; the predicted time of a launch stands at its leading node."""
    choice, latency = planned.choice, planned.gpu.latency
    model = planned.builder.float_model(choice.widths)
    int8 = planned.builder.integer_nodes(model, choice.formats)
    half = {n.name for n in planned.model.graph if any(o.dtype == ir.DataType.FLOAT16 for o in n.outputs)}
    times = {
        block.anchor: latency.block_us(b, choice.formats[b], choice.widths)
        for b, block in enumerate(planned.gpu.network.blocks)
    }
    return [
        LayerPlan(
            str(n.name),
            n.op_type,
            INT8 if n.name in int8 else "fp16" if n.name in half else "fp32",
            latency_us=times.get(str(n.name)),
        )
        for n in model.graph
    ]


def _proof(job: Job, model: ir.Model, shapes: Mapping[str, tuple[int, ...]], progress: Progress) -> list[str]:
    """What a real builder says of the graph, where one is installed."""
    if not tensorrt_rtx.is_installed():
        return []
    with progress.step("building with TensorRT for RTX"):
        try:
            engine = tensorrt_rtx.build(model, shapes=shapes)
        except BackendError as error:
            refused = str(error)
            try:
                tensorrt_rtx.build(job.dense, shapes=shapes)
            except BackendError:
                return [f"not even the original can be built here, which proves nothing of the device: {refused}"]
            raise BackendError(f"the original can be built, but not the lowered model: {refused}") from error
    return [
        f"TensorRT for RTX {engine.version} built the lowered graph here ({engine.layers} layers): that "
        f"{tensorrt_rtx.PROOF}"
    ]


def _outcome(planned: Planned, goal: Goal) -> Outcome:
    formats = describe_formats(planned.choice.formats)
    floating = planned.builder.float_format
    on_integers = INT8 in planned.choice.formats
    if planned.cut:
        best = min(planned.variants, key=lambda name: planned.variants[name].latency_us)
        reason = (
            f"Widths and precision were chosen together: launches {formats}; predicted {planned.gain:.2f}x as fast as "
            f"the unpruned {best} variant."
        )
        return Outcome("compressed", planned.gain >= NEVER_SLOWER, _with_margin(reason, planned, goal))
    kind = f"unpruned-{INT8 if on_integers else floating}"
    reason = f"Nothing was cut: launches {formats}."
    return Outcome(kind, not goal.has_budget and not goal.prune, _with_margin(reason, planned, goal))


def _with_margin(reason: str, planned: Planned, goal: Goal) -> str:
    if not goal.has_budget:
        return reason
    budget_ms = (goal.budget_us(planned.baseline_us) or 0.0) / 1e3
    return (
        f"{reason} By the prediction, with the profile's error of {planned.margin - 1:.0%} as margin, it keeps the "
        f"budget of {budget_ms:.4g} ms; only the device can tell."
    )


def _warnings(planned: Planned, goal: Goal, accuracy: Accuracy, judge: Judge) -> list[str]:
    found = []
    if not goal.prune and goal.max_drop is None and accuracy.drop > DEFAULT_MAX_DROP:
        found.append(f"this precision costs {accuracy.drop:.2f} points; --max-drop limits that")
    if is_fidelity(judge):
        found.append("accuracy was not measured: without --eval, agreement with the original stands in for it")
    return found
