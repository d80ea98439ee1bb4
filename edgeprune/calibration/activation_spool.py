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


@dataclass(frozen=True)
class _Place:
    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Spool:
    """Named sequences of arrays in a temporary folder: written batch by batch, read by name and batch number.

    It reads and writes files without a memory map: pages of a map would count as this process's memory.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="edgeprune-")
        self._numbers = itertools.count()
        self._places: dict[str, list[_Place]] = {}
        self._files: dict[str, Path] = {}

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def append(self, name: str, array: NDArray[Any]) -> None:
        """Add the next batch of a sequence.

        Raises:
            CalibrationError: the disk is full.
        """
        if name not in self._files:
            self._files[name] = Path(self._folder.name) / str(next(self._numbers))
            self._places[name] = []
        try:
            with self._files[name].open("ab") as file:
                self._places[name].append(_Place(file.tell(), array.dtype, array.shape))
                np.ascontiguousarray(array).tofile(file)
        except OSError as error:
            raise CalibrationError(f"no room for activations in {self._folder.name}: {error}") from error

    def read(self, name: str, batch: int) -> NDArray[Any]:
        """One batch of a sequence."""
        place = self._places[name][batch]
        count = int(np.prod(place.shape))
        return np.fromfile(self._files[name], place.dtype, count, offset=place.offset).reshape(place.shape)

    def drop(self, name: str) -> None:
        """Delete a sequence and free its disk space."""
        self._files.pop(name).unlink()
        del self._places[name]
