"""Open the compile session for a request and its target."""

from __future__ import annotations

from edgeprune.backends import LOCAL, open_device
from edgeprune.build import surgeon
from edgeprune.compiler.cpu_session import open_cpu_session
from edgeprune.compiler.opening import open_model_and_data
from edgeprune.compiler.request import Request
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.tensorrt_session import open_tensorrt_session
from edgeprune.latency import open_harness, open_remote_harness
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
    opening = open_model_and_data(request, may, progress)
    if not request.is_for_cpu:
        return open_tensorrt_session(opening, may, profile, request.options, surgery, device)
    harness = open_harness(opening.opened, opening.data, request.shapes, request.threads)
    if request.device not in (None, LOCAL):
        harness = open_remote_harness(opening.opened, harness.feeds, str(request.device), request.threads)
    return open_cpu_session(opening, may, harness)
