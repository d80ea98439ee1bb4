"""Open the compile session for a request, its target and the runtime there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import onnx_ir as ir

from edgeprune.backends import LOCAL, Board, EngineDevice, OpenVino, open_device, openvino_is_installed
from edgeprune.build import Kept, Learning, Trained, surgeon, write_openvino
from edgeprune.calibration import Calibration
from edgeprune.compiler.cpu_session import CpuSession, open_cpu_session
from edgeprune.compiler.opening import Opening, open_model_and_data, open_shapes
from edgeprune.compiler.request import Request
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.tensorrt_session import TensorRtSession, open_tensorrt_session
from edgeprune.devices import AUTO
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.latency import (
    FLOAT,
    Format,
    onnxruntime_lowering,
    open_harness,
    open_remote_harness,
    openvino_lowering,
)
from edgeprune.passes.openvino import state_precision
from edgeprune.search import Goal
from edgeprune.support import Progress
from edgeprune.timing import benchmark

WORSE_IN_16_BITS = 0.25
"""Points that the network may lose with its float layers in bfloat16 before they stay in float32: by the mildest value
of the interval, for on few samples a single detection is more than that."""

WRONG = 5.0
"""Points that a network may lose with its float layers in float32: what it loses more is no rounding."""


def open_session(request: Request, may: Goal, progress: Progress) -> tuple[Opening, CompileSession]:
    """Read the model and its data, and profile or predict it for the target.

    Args:
        request: a checked request.
        may: whether the model may be pruned and quantized; its budget is not used.
        progress: shows the progress.

    Raises:
        CalibrationError, EvaluationError: data is missing or does not fit the model.
        ModelError: the model is invalid or not supported.
        BackendError: the device cannot be reached, or the runtime is not installed.
    """
    runtime = request.runs_on
    cache = request.timing_cache
    address = None if runtime.on_cpu and request.device == LOCAL else request.device  # local: in this process
    device = None if address is None else open_device(address, runtime.name, timing_cache=cache)
    if runtime.name == OpenVino.name:
        OpenVino(request.threads)  # before all work: whether it is installed
    if isinstance(device, Board):
        device.facts()  # before all work: whether it can be reached and has the runtime
    opening = open_model_and_data(request, may, progress)
    learning = _learning(request, opening.opened.dense, progress)
    if not runtime.on_cpu:
        assert device is None or isinstance(device, EngineDevice)  # what `open_device` gives for TensorRT
        session: CompileSession = _open_for_tensorrt(request, opening, may, device)
    elif request.runtime == AUTO:
        session = _fastest(request, opening, may)
    else:
        session = _open_on_cpu(request, opening, may, runtime.name)
    session.builder.learning = learning
    return opening, session


def _learning(request: Request, dense: ir.Model, progress: Progress) -> Learning:
    """How the accuracy of a candidate is recovered.

    Raises:
        ModelError: it is to be trained, and has an operator that cannot be run in PyTorch; the text names its node.
    """
    minutes = request.training_minutes
    if minutes is None:
        return Learning(fast=request.recover != "none")
    progress.note(f"a candidate that is chosen is trained for {minutes:g} min on top of that")
    from edgeprune.distill import Settings, train_built  # they load PyTorch, which the request asked for
    from edgeprune.executor import require_supported

    try:
        require_supported(dense)
    except ModelError as error:
        raise ModelError(f"--recover {request.recover}: {error}") from None

    def train(
        dense: ir.Model, before: ir.Model, built: ir.Model, kept: Kept, data: Calibration, share: float
    ) -> Trained | None:
        settings = Settings(minutes=share * minutes, seed=request.seed)
        return train_built(dense, before, built, kept, data, settings, progress)

    return Learning(train=train)


def open_beside(request: Request, opening: Opening, may: Goal, session: CompileSession) -> CompileSession:
    """The session of a changed form of a session's model, for the same runtime; it knows the session."""
    if isinstance(session, TensorRtSession):
        tensorrt = _open_for_tensorrt(request, opening, may, session.device)
        made: CompileSession = replace(tensorrt, whole=session, baseline_us=session.baseline_us)
    else:
        assert isinstance(session, CpuSession)
        made = replace(_open_on_cpu(request, opening, may, session.network.lowering.runtime), whole=session)
    made.builder.learning = session.builder.learning
    return made


def _open_for_tensorrt(request: Request, opening: Opening, may: Goal, device: EngineDevice | None) -> TensorRtSession:
    surgery = surgeon(request.surgery)
    session = open_tensorrt_session(opening, may, request.profile, request.options, surgery, device)
    return replace(session, builds=request.builds)


def _open_on_cpu(request: Request, opening: Opening, may: Goal, runtime: str) -> CpuSession:
    """The session of one runtime."""
    harness = open_harness(opening.opened, opening.data, request.shapes, request.threads, runtime)
    low_rank = request.rank == "auto"
    if runtime == OpenVino.name:
        precision, notes = _float_format(request, opening)
        shapes = open_shapes(opening.opened)
        files = partial(write_openvino, threads=request.threads, precision=precision, shapes=shapes)
        session = open_cpu_session(opening, may, harness, openvino_lowering(precision), files, low_rank=low_rank)
        return replace(session, notes=(*session.notes, *notes))
    if request.device not in (None, LOCAL):
        harness = open_remote_harness(opening.opened, harness.feeds, str(request.device), request.threads)
    return open_cpu_session(opening, may, harness, onnxruntime_lowering(harness.features), low_rank=low_rank)


def _float_format(request: Request, opening: Opening) -> tuple[Format, list[str]]:
    """The type of the float layers in OpenVINO, and a sentence if it is not the one that the processor is fastest in.

    Raises:
        UsageError: the processor has no instructions for the precision that was asked for.
        ModelError, BackendError: OpenVINO does not run the model.
    """
    runtime = OpenVino(request.threads)
    wider = [f for f in runtime.float_precisions if f != FLOAT]
    if request.precision == "bf16" and "bf16" not in wider:
        raise UsageError("--precision bf16: this processor has no instructions for bfloat16")
    fast = FLOAT if request.precision == FLOAT or not wider else wider[0]
    drops: dict[Format, float] = {}
    mildest: dict[Format, float] = {}
    with opening.progress.step("scoring the float network in OpenVINO"):
        dense = opening.opened.dense
        for precision in dict.fromkeys((fast, FLOAT)):
            scored = opening.evaluator.accuracy(runtime.load(state_precision(dense, precision)).run)
            drops[precision] = scored.drop
            mildest[precision] = scored.drop if scored.drop_interval is None else min(scored.drop_interval)
            enough = WRONG if request.precision == precision else WORSE_IN_16_BITS
            if precision != FLOAT and mildest[precision] <= enough:
                return precision, []
    if mildest[FLOAT] > WRONG:
        raise ModelError(
            f"OpenVINO computes other outputs than onnxruntime: in fp32 the network loses {drops[FLOAT]:.3g} points"
        )
    if request.precision == fast or fast == FLOAT:
        return fast, []
    return FLOAT, [f"float layers stay in fp32: the network would lose {drops[fast]:.2g} points in {fast}"]


def _fastest(request: Request, opening: Opening, may: Goal) -> CpuSession:
    """The session of the runtime whose best unpruned network of acceptable loss is the fastest, timed in turns.

    A runtime that is not installed, or does not run the model, is left out; a sentence says so.
    """
    names, notes, limit = request.profile.runtimes, list[str](), may.drop_limit
    sessions = {names[0]: _open_on_cpu(request, opening, may, names[0])}
    models = {names[0]: _unpruned(sessions[names[0]], limit)}
    if request.device not in (None, LOCAL):
        notes.append("--runtime auto: only onnxruntime is measured over SSH")
    elif not openvino_is_installed():
        notes.append("--runtime auto: OpenVINO is not installed, so onnxruntime runs the result")
    else:
        try:
            session = _open_on_cpu(request, opening, may, OpenVino.name)
            models[OpenVino.name] = _unpruned(session, limit)
            sessions[OpenVino.name] = session
        except (ModelError, BackendError) as error:
            notes.append(f"--runtime auto: onnxruntime runs the result, because OpenVINO cannot run the model: {error}")
    if len(sessions) == 1:
        default = sessions[names[0]]
        return replace(default, notes=(*default.notes, *notes))
    runs = {f"{name} {variant}": run for name, of in models.items() for variant, run in of.items()}
    with opening.progress.step("comparing runtimes") as step:
        found = benchmark(runs, progress=step.fraction)
    ms = {name: min((found[f"{name} {variant}"].median_ms, variant) for variant in of) for name, of in models.items()}
    winner, loser = sorted(ms, key=lambda name: ms[name])
    notes.append(
        f"--runtime auto: {winner} runs the result: its fastest unpruned network takes {ms[winner][0]:.3g} ms "
        f"({ms[winner][1]}), that of {loser} {ms[loser][0]:.3g} ms ({ms[loser][1]})"
    )
    chosen = sessions[winner]
    return replace(chosen, notes=(*chosen.notes, *notes))


def _unpruned(session: CpuSession, limit: float) -> dict[str, Callable[[], object]]:
    """What runs each of the unpruned variants once."""
    variants = session.variants(limit)
    return {name: session.harness.bind(session.variant_model(candidate)) for name, candidate in variants.items()}
