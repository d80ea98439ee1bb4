"""Open the compile session for a request and its target."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.backends import LOCAL, open_device
from edgeprune.build import formats_of, surgeon
from edgeprune.calibration import Calibration
from edgeprune.compiler.cpu_session import open_cpu_session
from edgeprune.compiler.opening import open_compile
from edgeprune.compiler.request import Request
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.tensorrt_session import open_tensorrt_session
from edgeprune.dependency import OpenedModel
from edgeprune.latency import INT8, open_harness, open_remote_harness
from edgeprune.passes.quantize import equalize
from edgeprune.search import Goal
from edgeprune.support import Progress


def open_session(request: Request, may: Goal, progress: Progress) -> CompileSession:
    """Read the model and its data, and profile or predict it for the target.

    Args:
        request: a checked request.
        may: whether the model may be pruned and quantized; its budget is not used.
        progress: shows the progress.

    Raises:
        CalibrationError, EvaluationError: data is missing or does not fit the model.
        ModelError: the model is invalid or not supported.
        BackendError: the device cannot be reached, or has no runtime.
    """
    profile, surgery = request.profile, surgeon(request.surgery)
    device = None
    if request.device is not None:
        device = open_device(request.device, "onnxruntime" if request.is_for_cpu else "tensorrt")
    quantizes = may.quantize if request.is_for_cpu else INT8 in formats_of(request.precision, profile)

    def equalized(opened: OpenedModel, fit: Calibration) -> ir.Model | None:
        if not quantizes or (fit.is_random and not request.is_for_cpu):  # random data has no real channel ranges
            return None
        with progress.step("equalizing channels"):
            return equalize(opened.dense, fit, symmetric=not request.is_for_cpu, threads=request.threads)

    opening = open_compile(
        request.model,
        request.samples,
        request.evaluation,
        request.shapes,
        request.threads,
        request.seed,
        progress,
        equalized,
    )
    if not request.is_for_cpu:
        return open_tensorrt_session(opening, may, profile, request.options, surgery, device)
    harness = open_harness(opening.opened, opening.data, request.shapes, request.threads)
    if request.device not in (None, LOCAL):
        harness = open_remote_harness(opening.opened, harness.feeds, str(request.device), request.threads)
    return open_cpu_session(opening, may, harness)
