"""How long steps took the last time, in the user's cache folder, so that the next time can say what is left of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

_MOST_KEPT = 500


class StepTimes:
    """Seconds by step, of one piece of work; the file is shared by all of them."""

    def __init__(self, work: str, folder: Path | None = None):
        """Args: work: what distinguishes one piece of work from another; folder: where the file is."""
        from edgeprune.cache import cache_folder

        self._prefix = hashlib.sha256(work.encode()).hexdigest()[:16]
        self._file = (folder or cache_folder()) / "steps.json"
        self._seconds = self._read()

    def get(self, step: str) -> float | None:
        """Seconds the step took the last time."""
        return self._seconds.get(f"{self._prefix} {step}")

    def put(self, step: str, seconds: float) -> None:
        """Remember what it took; a file that cannot be written is no reason to stop."""
        kept = self._read()
        kept.pop(f"{self._prefix} {step}", None)
        kept[f"{self._prefix} {step}"] = round(seconds, 2)
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
