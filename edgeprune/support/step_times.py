"""Seconds that each step took the last time, in the user's cache folder; progress bars show the time left from them.

For a new model a compile predicts its long steps from the graph (`edgeprune.build.cost_forecast`). The other steps
have usual times: those of the last model with the same command, or else those of small networks (YOLOv8n at 160 pixels,
ResNet-18, a small ViT) on one thread of an x86 server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from edgeprune.errors import UsageError
from edgeprune.support.atomic_output import write_text
from edgeprune.support.disk_cache import cache_folder

_MOST_KEPT = 500

USUAL_S = {
    "building and measuring on": 60.0,
    "building the result": 40.0,
    "building with TensorRT for RTX": 5.0,
    "choosing widths": 5.0,
    "comparing outputs": 3.0,
    "comparing with the original": 2.0,
    "equalizing channels": 3.0,
    "exporting with": 15.0,
    "finding the best unpruned variant": 15.0,
    "finding what can be cut": 0.5,
    "finding where the engine is wrong": 600.0,
    "looking at the outputs": 1.0,
    "looking at the trained ranges": 1.0,
    "looking for a latency within the limits": 5.0,
    "looking for what FP16 cannot hold": 1.0,
    "looking up what is known": 0.5,
    "making the module": 3.0,
    "matching weights": 1.0,
    "measuring": 3.0,
    "measuring network": 30.0,
    "measuring what can be offered": 2.0,
    "measuring where INT8 is faster": 600.0,
    "predicting kernels": 1.0,
    "preparing": 5.0,
    "preparing trials": 6.0,
    "pricing 2:4 weights": 10.0,
    "pricing ranks": 10.0,
    "racing formats": 7.0,
    "ranking by": 1.0,
    "ranking by obs": 30.0,
    "ranking units": 40.0,
    "reading": 1.0,
    "reading the model": 1.0,
    "recovering accuracy": 35.0,
    "refitting what stays": 20.0,
    "running the engine on": 30.0,
    "scoring the float network in OpenVINO": 2.0,
    "scoring the original": 1.0,
    "scoring the result": 1.0,
    "scoring the rival": 2.0,
    "searching and measuring": 60.0,
    "simulating the engine": 5.0,
    "solving around the candidate": 2.0,
    "timing the layers": 2.0,
    "trying narrower residual streams": 10.0,
    "trying a faster network": 60.0,
    "trying a short training": 60.0,
    "trying a milder budget": 5.0,
    "verifying the cut": 2.0,
    "writing": 0.5,
}
"""Step -> seconds, for every step that reports no pace of its own; more words may follow in a step's name."""


def usual_s(step: str) -> float | None:
    """Seconds of a step for a small network."""
    known = [name for name in USUAL_S if step == name or step.startswith(f"{name} ")]
    return USUAL_S[max(known, key=len)] if known else None


class StepTimes:
    """Seconds by step for one piece of work; all work shares one file."""

    def __init__(self, work: str, folder: Path | None = None, *, kind: str = ""):
        """Args: work: its key; folder: where the file is; kind: the kind of work, such as the command."""
        self._prefix = hashlib.sha256(work.encode()).hexdigest()[:16]
        self._kind = kind
        self._file = (folder or cache_folder()) / "steps.json"
        self._seconds = self._read()

    def get(self, step: str) -> float | None:
        """Seconds that the step took the last time."""
        return self._seconds.get(f"{self._prefix} {step}")

    def usual(self, step: str) -> float | None:
        """Seconds that it took in the last work of the same kind, or else takes for a small network."""
        return self._seconds.get(f"{self._kind} {step}") or usual_s(step)

    def put(self, step: str, seconds: float) -> None:
        """Store the seconds of a step; a file that cannot be written is ignored."""
        kept = self._read()
        for whose in (self._prefix, self._kind):
            kept.pop(f"{whose} {step}", None)
            kept[f"{whose} {step}"] = round(seconds, 2)
        self._seconds = dict(list(kept.items())[-_MOST_KEPT:])
        with contextlib.suppress(OSError, UsageError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_text(self._file, json.dumps(self._seconds))

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {k: float(v) for k, v in found.items() if isinstance(v, (int, float))} if isinstance(found, dict) else {}
