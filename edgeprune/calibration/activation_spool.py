"""Activations of a whole calibration set on disk, so that memory does not grow with the set."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CalibrationError
from edgeprune.support import TEMPORARY_FILES

HALF_MAX = 65504.0
"""The largest number in float16."""


@dataclass(frozen=True)
class _Place:
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    is_half: bool


class Spool:
    """Named sequences of arrays in a temporary folder: written batch by batch, read by name and batch number.

    It reads and writes files without a memory map: pages of a map would count as this process's memory.

    Attributes:
        half: whether float32 arrays are stored as float16, except those beyond its range: half the space, and an error
            of 0.05% that statistics over many values do not see.
        most_bytes: the most bytes that were stored at the same time.
    """

    def __init__(self, *, half: bool = False) -> None:
        self.half = half
        self.most_bytes = 0
        self._bytes = 0
        self._folder = tempfile.TemporaryDirectory(prefix="edgeprune-")
        self._numbers = itertools.count()
        self._places: dict[str, list[_Place]] = {}
        self._files: dict[str, Path] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._count(-self._bytes)
        self._folder.cleanup()

    def _count(self, changed: int) -> None:
        self._bytes += changed
        self.most_bytes = max(self.most_bytes, self._bytes)
        TEMPORARY_FILES.add(changed)

    def append(self, name: str, array: NDArray[Any]) -> None:
        """Add the next batch of a sequence.

        Raises:
            CalibrationError: the disk is full.
        """
        is_half = self.half and array.dtype == np.float32 and bool(np.abs(array).max(initial=0) < HALF_MAX)
        stored = np.ascontiguousarray(array, np.float16 if is_half else array.dtype)
        if name not in self._files:
            self._files[name] = Path(self._folder.name) / str(next(self._numbers))
            self._places[name] = []
        try:
            with self._files[name].open("ab") as file:
                self._places[name].append(_Place(file.tell(), array.dtype, array.shape, is_half))
                stored.tofile(file)
        except OSError as error:
            raise CalibrationError(f"no room for activations in {self._folder.name}: {error}") from error
        self._count(stored.nbytes)

    def read(self, name: str, batch: int) -> NDArray[Any]:
        """One batch of a sequence."""
        place = self._places[name][batch]
        count, kind = int(np.prod(place.shape)), np.dtype(np.float16) if place.is_half else place.dtype
        found = np.fromfile(self._files[name], kind, count, offset=place.offset).reshape(place.shape)
        return found.astype(place.dtype, copy=False)

    def drop(self, name: str) -> None:
        """Delete a sequence and free its disk space."""
        file = self._files.pop(name)
        self._count(-file.stat().st_size)
        file.unlink()
        del self._places[name]
