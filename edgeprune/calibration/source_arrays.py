"""Calibration samples from .npz and .npy files, streamed: only one batch of rows is in memory at a time."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.sources import Array, Feeds, InputSpec, joined
from edgeprune.errors import CalibrationError


@dataclass(frozen=True)
class Member:
    """One stored array: how to open it, and the type and shape in its header."""

    path: Path
    entry: str | None
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    def open(self, stack: ExitStack) -> IO[bytes]:
        """A stream of the array's data, positioned after the header."""
        if self.entry is None:
            stream: IO[bytes] = stack.enter_context(self.path.open("rb"))
        else:
            stream = stack.enter_context(stack.enter_context(zipfile.ZipFile(self.path)).open(self.entry))
        _read_header(stream, f"{self.path}")
        return stream


def _read_header(stream: IO[bytes], where: str) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if dtype.hasobject:
        raise CalibrationError(f"{where} has Python objects, not numbers")
    if fortran and len(shape) > 1:
        raise CalibrationError(f"{where} is stored column by column; save np.ascontiguousarray(array) instead")
    return dtype, shape


def read_members(path: Path) -> dict[str, Member]:
    """The arrays of an .npz (by name) or .npy (named ``""``); only their headers are read.

    Raises:
        CalibrationError: the file is missing, or cannot be read.
    """
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return {"": Member(path, None, *_read_header(stream, str(path)))}
        with zipfile.ZipFile(path) as archive:
            found = {}
            for entry in archive.namelist():
                with archive.open(entry) as stream:
                    found[entry.removesuffix(".npy")] = Member(path, entry, *_read_header(stream, f"{path}:{entry}"))
            return found
    except FileNotFoundError:
        raise CalibrationError(f"{path} does not exist") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, SyntaxError) as error:
        raise CalibrationError(f"{path} can't be read as NumPy arrays: {error}") from error


@dataclass(frozen=True)
class ArraySource:
    """Arrays of an .npz or .npy file, one for each input, streamed in order."""

    path: Path
    members: Mapping[str, Member]
    rows: Mapping[str, int]
    """Rows of each input in an item."""
    stacked: bool
    """Whether axis 0 counts items and is not an axis of the model's inputs."""

    @property
    def items(self) -> int:
        """Number of items; rows after the last whole item are not used."""
        return min(member.shape[0] // self.rows[name] for name, member in self.members.items())

    @property
    def samples(self) -> int:
        """Rows of the first input in all items."""
        return self.items * next(iter(self.rows.values()))

    @property
    def joins_items(self) -> bool:
        """Unless the inputs have no axis for it."""
        return not self.stacked

    def describe(self) -> str:
        """The file's name."""
        return self.path.name

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items; only one batch of each array is in memory."""
        with ExitStack() as stack:
            try:
                streams = {name: member.open(stack) for name, member in self.members.items()}
                items = ({name: self._next(name, stream) for name, stream in streams.items()} for _ in chosen)
                yield from joined(itertools.compress(items, chosen), items_per_batch)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise CalibrationError(f"{self.path} can't be read to its end: {error}") from error

    def _next(self, name: str, stream: IO[bytes]) -> Array:
        member = self.members[name]
        shape = member.shape[1:] if self.stacked else (self.rows[name], *member.shape[1:])
        size = int(np.prod(shape)) * member.dtype.itemsize
        data = stream.read(size)
        if len(data) != size:
            raise EOFError("it ends early")
        return np.frombuffer(data, member.dtype).reshape(shape)


def open_arrays(path: Path, specs: tuple[InputSpec, ...]) -> ArraySource:
    """The arrays of a file with the names of the model's inputs; one .npy array feeds the only input.

    Axis 0 counts samples: it is the inputs' batch axis, or an additional axis before those of the inputs.

    Raises:
        CalibrationError: the file can't be read, or an array is missing or does not fit.
    """
    members = read_members(path)
    if set(members) == {""} and len(specs) == 1:
        members = {specs[0].name: members[""]}
    missing = [spec.name for spec in specs if spec.name not in members]
    if missing:
        raise CalibrationError(
            f"{path} has no array named {missing[0]!r}; it has {', '.join(sorted(members)) or 'none'}"
        )
    members = {spec.name: members[spec.name] for spec in specs}
    stacked = all(len(members[s.name].shape) == len(s.shape) + 1 for s in specs)
    rows = {}
    for spec in specs:
        member = members[spec.name]
        spec.check_header(
            member.dtype, member.shape[1:] if stacked else member.shape, str(path), skip_batch=not stacked
        )
        if not member.shape:
            raise CalibrationError(f"{path}: the array for input {spec.name!r} is a single number")
        rows[spec.name] = 1 if stacked else (spec.shape[0] or 1)
        if member.shape[0] < rows[spec.name]:
            raise CalibrationError(
                f"{path}: input {spec.name!r} takes {spec}, but the data has only {member.shape[0]} samples"
            )
    counts = {name: member.shape[0] // rows[name] for name, member in members.items()}
    if len(set(counts.values())) > 1:
        raise CalibrationError(f"{path}: its arrays have different numbers of samples: {counts}")
    return ArraySource(path, members, rows, stacked)
