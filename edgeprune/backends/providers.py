"""Checks whether onnxruntime's providers and OpenVINO can run a model: a list only says what was compiled in.

A provider that cannot find its driver silently falls back to the CPU. So a tiny convolution runs on each provider, in a
new process (native code that crashes must not take this one down). Its result is compared with the CPU's, and
onnxruntime's profile must show that the provider ran it.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.backends.openvino import OpenVino
from edgeprune.hosts import call_in_child

TIMEOUT_S = 120.0

TINY_NET = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[1, 8, 16, 16] x, float[8, 8, 3, 3] w) => (float[1, 8, 16, 16] y) {
    c = Conv<pads = [1, 1, 1, 1]>(x, w)
    y = Relu(c)
}
"""
_REMOTE = frozenset({"AzureExecutionProvider"})
"""A provider that calls models on a server and computes nothing itself; it is in every build."""

_OPENVINO = "OpenVINO"

_TOLERANCE = 2e-2
"""Relative to the largest output: TF32, FP16 and BF16 convolutions are within it, a wrong kernel is not."""


@dataclass(frozen=True)
class Trial:
    """The result for one provider: whether it ran the model, and a sentence."""

    provider: str
    works: bool
    detail: str


def try_providers() -> list[Trial]:
    """One trial for every provider of the installed onnxruntime, in its order; none if it is not installed."""
    try:
        import onnxruntime as ort
    except ImportError:
        return []
    return [try_provider(name) for name in ort.get_available_providers() if name not in _REMOTE]


def try_openvino() -> Trial:
    """The trial of OpenVINO, which has to be installed."""
    return try_provider(_OPENVINO)


def try_provider(name: str) -> Trial:
    """Run the tiny model on a provider, or on OpenVINO, in another process."""
    try:
        done = call_in_child(__name__, "print_trial", name, timeout_s=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return Trial(name, False, f"it did not answer within {TIMEOUT_S:.0f} s")
    lines = done.output.strip().splitlines()
    if done.code == 0 and lines:
        answer = json.loads(lines[-1])
        return Trial(name, bool(answer["works"]), str(answer["detail"]))
    errors = done.errors.strip().splitlines()
    return Trial(name, False, f"it failed ({done.how()}){': ' + errors[-1] if errors else ''}")


def run_tiny_model(name: str) -> Trial:
    """Run the tiny model on a provider in this process; exceptions of the provider are not caught."""
    import onnxruntime as ort

    model, feeds = _tiny()
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "trace")
        session = ort.InferenceSession(model, options, providers=[name])
        session.disable_fallback()
        (found,) = session.run(None, feeds)
        trace = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    used = {event["args"]["provider"] for event in trace if event.get("args", {}).get("provider")}
    if name not in used:
        return Trial(name, False, f"it is listed, but {' and '.join(sorted(used)) or 'nothing'} ran the model")
    return _compared(name, found, "")


def run_tiny_in_openvino() -> Trial:
    """Run the tiny model in OpenVINO in this process; its exceptions are not caught."""
    model, feeds = _tiny()
    runtime = OpenVino()
    (found,) = runtime.load(model).run(feeds)
    return _compared(_OPENVINO, found, f"; float layers in {' or '.join(runtime.float_precisions)}")


def _tiny() -> tuple[bytes, dict[str, NDArray[Any]]]:
    import onnx.parser

    random = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {
        "x": random.standard_normal((1, 8, 16, 16), dtype=np.float32),
        "w": random.standard_normal((8, 8, 3, 3), dtype=np.float32),
    }
    return onnx.parser.parse_model(TINY_NET).SerializeToString(), feeds


def _compared(name: str, found: NDArray[Any], more: str) -> Trial:
    """The trial of a provider with this result."""
    import onnxruntime as ort

    model, feeds = _tiny()
    (wanted,) = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    deviation = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not deviation <= _TOLERANCE:
        return Trial(name, False, f"its result is wrong by {deviation:.2g} of the largest value")
    return Trial(name, True, f"ran a convolution with the correct result{more}")


def print_trial(name: str) -> None:
    """Run the tiny model and print the result as JSON; this is called in the other process."""
    trial = run_tiny_in_openvino() if name == _OPENVINO else run_tiny_model(name)
    print(json.dumps({"works": trial.works, "detail": trial.detail}))
