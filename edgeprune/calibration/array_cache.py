"""Statistics that outlive the process: named arrays in a SQLite file, with everything they depend on as their key.

The scores of units and the predicted losses of candidates depend on the model, the calibration data, some settings and
the code, but not on the budget. So a second compile of the same model finds them here.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import ProfileError
from edgeprune.support import cache_folder

Arrays = Mapping[str, NDArray[Any]]

KEPT_BYTES = 256 << 20
"""Above this size, the entries that were not used for the longest time are deleted."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS statistic (
    key TEXT PRIMARY KEY, what TEXT NOT NULL, value BLOB NOT NULL, used TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) WITHOUT ROWID
"""

_DROP_OLDEST = """
DELETE FROM statistic WHERE key IN (
    SELECT key FROM (SELECT key, SUM(LENGTH(value)) OVER (ORDER BY used DESC, key) AS total FROM statistic)
    WHERE total > ?
)
"""


class ArrayCache:
    """Arrays that were computed from one model and its calibration data.

    Args:
        identity: everything that all of them depend on, as text.
        path: the file; by default ``statistics.sqlite`` in the cache folder.
    """

    def __init__(self, identity: str, path: Path | None = None):
        self._identity = identity
        self._path = path

    def of(self, part: str) -> ArrayCache:
        """The arrays that depend on something more, such as a changed form of the model."""
        return ArrayCache(f"{self._identity}\n{part}", self._path)

    def arrays(self, what: str, settings: object, compute: Callable[[], Arrays]) -> Arrays:
        """The stored arrays, or the result of ``compute``, which is then stored.

        Args:
            what: name of the statistic.
            settings: everything it depends on besides the identity, as plain JSON data.
            compute: called if nothing is stored yet; no array may contain Python objects.

        Raises:
            ProfileError: the cache cannot be used.
        """
        found = self.find(what, settings)
        if found is None:
            found = compute()
            self.keep(what, settings, found)
        return found

    def find(self, what: str, settings: object) -> Arrays | None:
        """The stored arrays, or None; arguments and errors as in `arrays`."""
        key = self._key(what, settings)
        with self._open() as db:
            row = db.execute("SELECT value FROM statistic WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            db.execute("UPDATE statistic SET used = CURRENT_TIMESTAMP WHERE key = ?", (key,))
            return _unpack(row[0])

    def keep(self, what: str, settings: object, arrays: Arrays) -> None:
        """Store arrays and replace earlier ones; arguments and errors as in `arrays`."""
        row = self._key(what, settings), what, _pack(arrays)
        with self._open() as db:
            db.execute("INSERT OR REPLACE INTO statistic (key, what, value) VALUES (?, ?, ?)", row)
            db.execute(_DROP_OLDEST, (KEPT_BYTES,))

    def _key(self, what: str, settings: object) -> str:
        text = json.dumps([self._identity, what, settings], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        file = self._path or cache_folder() / "statistics.sqlite"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(file, timeout=30)) as db, db:
                db.execute(_SCHEMA)
                yield db
        except (OSError, sqlite3.Error, zipfile.BadZipFile, ValueError) as error:
            raise ProfileError(
                f"the statistics cache {file} cannot be used ({error}); remove it or set EDGEPRUNE_CACHE"
            ) from error


def _pack(arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(name, "w") as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()


def _unpack(data: bytes) -> dict[str, NDArray[Any]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {
            name: np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False)
            for name in archive.namelist()
        }
