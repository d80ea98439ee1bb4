"""How long steps took the last time, in the user's cache folder, so that the next time can say what is left of them.

The first time there is only what they usually take: for the last model that the same command was run on, or else what
they took for small networks (YOLOv8n at 160 pixels, ResNet-18, a small ViT) on one thread of an x86 server.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

_MOST_KEPT = 500

USUAL_S = {
    "building and measuring on": 60.0,
    "building the result": 40.0,
    "building with TensorRT for RTX": 5.0,
    "comparing outputs": 3.0,
    "comparing with the original": 2.0,
    "equalizing channels": 3.0,
    "exporting with": 15.0,
    "finding the best unpruned variant": 15.0,
    "finding what can be cut": 0.5,
    "looking up what is known": 0.5,
    "making the module": 3.0,
    "matching weights": 1.0,
    "measuring network": 30.0,
    "predicting launches": 1.0,
    "preparing trials": 6.0,
    "pricing 2:4 weights": 10.0,
    "racing formats": 7.0,
    "ranking by": 1.0,
    "ranking by obs": 30.0,
    "ranking units": 40.0,
    "reading": 1.0,
    "reading the model": 1.0,
    "recovering accuracy": 35.0,
    "refitting what stays": 20.0,
    "scoring the original": 1.0,
    "scoring the result": 1.0,
    "searching and measuring": 60.0,
    "solving around the choice": 2.0,
    "timing the layers": 2.0,
    "trying a faster network": 60.0,
    "writing": 0.5,
}
"""Step -> seconds, for every step that does not tell its own pace; a step may go on after the words given here."""


def usual_s(step: str) -> float | None:
    """Seconds that a step takes for a small network."""
    known = [name for name in USUAL_S if step == name or step.startswith(f"{name} ")]
    return USUAL_S[max(known, key=len)] if known else None


class StepTimes:
    """Seconds by step, of one piece of work; the file is shared by all of them."""

    def __init__(self, work: str, folder: Path | None = None, *, kind: str = ""):
        """Args: work: what distinguishes one piece of work from another; folder: where the file is; kind: of work."""
        from edgeprune.support.disk_cache import cache_folder

        self._prefix = hashlib.sha256(work.encode()).hexdigest()[:16]
        self._kind = kind
        self._file = (folder or cache_folder()) / "steps.json"
        self._seconds = self._read()

    def get(self, step: str) -> float | None:
        """Seconds the step took the last time."""
        return self._seconds.get(f"{self._prefix} {step}")

    def usual(self, step: str) -> float | None:
        """Seconds it took in the last work of the same kind, or else takes for a small network."""
        return self._seconds.get(f"{self._kind} {step}") or usual_s(step)

    def put(self, step: str, seconds: float) -> None:
        """Remember what it took; a file that cannot be written is no reason to stop."""
        kept = self._read()
        for whose in (self._prefix, self._kind):
            kept.pop(f"{whose} {step}", None)
            kept[f"{whose} {step}"] = round(seconds, 2)
        self._seconds = dict(list(kept.items())[-_MOST_KEPT:])
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._file.with_name(f".{self._file.name}.tmp")
            fresh.write_text(json.dumps(self._seconds), encoding="utf-8")
            fresh.replace(self._file)

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {k: float(v) for k, v in found.items() if isinstance(v, (int, float))} if isinstance(found, dict) else {}
