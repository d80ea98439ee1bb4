"""Does an execution provider of onnxruntime really run a model? Lists of providers say what was compiled in, no more.

A provider that cannot find its driver falls back to the CPU without a word that a program would notice. So a tiny
convolution is run on each, in a process of its own (native code that fails must not take this one down), its numbers
are held against the CPU's, and onnxruntime's own profile has to say that the provider ran it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 120.0

TINY_NET = """
<ir_version: 8, opset_import: ["" : 17]>
tiny (float[1, 8, 16, 16] x, float[8, 8, 3, 3] w) => (float[1, 8, 16, 16] y) {
    c = Conv<pads = [1, 1, 1, 1]>(x, w)
    y = Relu(c)
}
"""
_REMOTE = frozenset({"AzureExecutionProvider"})
"""Calls models elsewhere, and computes nothing itself; it is in every build."""

_TOLERANCE = 2e-2
"""Of the largest output: TF32 and float16 products are right by this measure, a wrong kernel is not."""


@dataclass(frozen=True)
class Trial:
    """What became of one provider: whether it ran the model, and a sentence on it."""

    provider: str
    works: bool
    detail: str


def try_providers() -> list[Trial]:
    """One trial for every provider that onnxruntime was built with, in its order; none where it is not installed."""
    try:
        import onnxruntime as ort
    except ImportError:
        return []
    return [try_provider(name) for name in ort.get_available_providers() if name not in _REMOTE]


def try_provider(name: str) -> Trial:
    """Run the tiny model on a provider, in another process."""
    command = [sys.executable, "-c", f"import sys; from {__name__} import print_trial; print_trial(sys.argv[1])", name]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return Trial(name, False, f"it did not answer within {TIMEOUT_S:.0f} s")
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode == 0 and lines:
        answer = json.loads(lines[-1])
        return Trial(name, bool(answer["works"]), str(answer["detail"]))
    said = done.stderr.decode(errors="replace").strip().splitlines()
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    return Trial(name, False, f"it failed ({how}){': ' + said[-1] if said else ''}")


def run_tiny_model(name: str) -> Trial:
    """Run the tiny model on a provider, in this process; whatever the provider raises comes through."""
    import numpy as np
    import onnx.parser
    import onnxruntime as ort

    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((1, 8, 16, 16), dtype=np.float32),
        "w": random.standard_normal((8, 8, 3, 3), dtype=np.float32),
    }
    model = onnx.parser.parse_model(TINY_NET).SerializeToString()
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
        return Trial(name, False, f"it is listed, but {' and '.join(sorted(used)) or 'nothing'} ran the model instead")
    (wanted,) = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)
    deviation = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    if not deviation <= _TOLERANCE:
        return Trial(name, False, f"its result is wrong by {deviation:.2g} of the largest value")
    return Trial(name, True, "ran a convolution, and its result is right")


def print_trial(name: str) -> None:
    """What the other process does: run the tiny model, and print what came of it as JSON."""
    trial = run_tiny_model(name)
    print(json.dumps({"works": trial.works, "detail": trial.detail}))
