"""Latencies cached on disk: a SQLite file in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from edgeprune.errors import ProfileError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS latency (
    device TEXT NOT NULL, work TEXT NOT NULL, us REAL NOT NULL CHECK (us >= 0),
    measured TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (device, work)
) WITHOUT ROWID
"""


def cache_folder() -> Path:
    """``$EDGEPRUNE_CACHE``, or the platform's cache folder."""
    if chosen := os.environ.get("EDGEPRUNE_CACHE"):
        return Path(chosen)
    import platformdirs

    return Path(platformdirs.user_cache_dir("edgeprune"))


class LatencyCache:
    """Latencies by device and piece of work; a device is processor, runtime version and threads together."""

    def __init__(self, device: str, path: Path | None = None):
        self._device = device
        file = path or cache_folder() / "latency.sqlite"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(file, timeout=30)
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ProfileError(
                f"the latency cache {file} cannot be used ({error}); remove it or set EDGEPRUNE_CACHE"
            ) from error

    def get(self, work: str) -> float | None:
        """Microseconds that were measured for this work on this device; None if it was not measured."""
        row = self._db.execute(
            "SELECT us FROM latency WHERE device = ? AND work = ?", (self._device, _key(work))
        ).fetchone()
        return None if row is None else float(row[0])

    def get_all(self, works: Iterable[str]) -> dict[str, float] | None:
        """Microseconds for each work, or None if one of them was not measured."""
        found = {}
        for work in works:
            if (us := self.get(work)) is None:
                return None
            found[work] = us
        return found

    def put(self, times_us: Mapping[str, float]) -> None:
        """Store all of these latencies, or none."""
        rows = [(self._device, _key(w), us) for w, us in times_us.items()]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO latency (device, work, us) VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise ProfileError(f"the latency cache cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _key(work: str) -> str:
    return hashlib.sha256(work.encode()).hexdigest()
