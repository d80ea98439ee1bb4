"""Calibration samples from .npz and .npy files, streamed: a batch of rows is all that is ever in memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.sources import Array, Feeds, InputSpec
from edgeprune.errors import CalibrationError


@dataclass(frozen=True)
class Member:
    """One stored array: how to open it, and what its header says."""

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
        raise CalibrationError(f"{where} holds Python objects, not numbers")
    if fortran and len(shape) > 1:
        raise CalibrationError(f"{where} is stored column by column; save np.ascontiguousarray(array) instead")
    return dtype, shape


def read_members(path: Path) -> dict[str, Member]:
    """The arrays of an .npz (by name) or .npy (named ``""``), by their headers alone.

    Raises:
        CalibrationError: the file is missing, or is no such archive.
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
    """How many rows of each input make an item."""
    stacked: bool
    """Whether axis 0 counts items and is no axis of the model's inputs."""

    @property
    def items(self) -> int:
        """How many items there are; rows left over after the last whole item are not used."""
        return min(member.shape[0] // self.rows[name] for name, member in self.members.items())

    @property
    def samples(self) -> int:
        """How many rows of the first input the items hold."""
        return self.items * next(iter(self.rows.values()))

    def describe(self) -> str:
        """The file's name."""
        return self.path.name

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items; only one batch of each array is in memory."""
        per_batch = 1 if self.stacked else items_per_batch
        with ExitStack() as stack:
            try:
                streams = {name: member.open(stack) for name, member in self.members.items()}
                pending: list[Feeds] = []
                for take in chosen:
                    item = {name: self._next(name, stream) for name, stream in streams.items()}
                    if take:
                        pending.append(item)
                    if len(pending) == per_batch:
                        yield self._join(pending)
                        pending = []
                if pending:
                    yield self._join(pending)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise CalibrationError(f"{self.path} can't be read to its end: {error}") from error

    def _next(self, name: str, stream: IO[bytes]) -> Array:
        member = self.members[name]
        shape = (self.rows[name], *member.shape[1:])
        size = int(np.prod(shape)) * member.dtype.itemsize
        data = stream.read(size)
        if len(data) != size:
            raise EOFError("it ends early")
        return np.frombuffer(data, member.dtype).reshape(shape)

    def _join(self, pending: Sequence[Feeds]) -> Feeds:
        if self.stacked:
            return {name: array[0] for name, array in pending[0].items()}
        return {name: np.concatenate([item[name] for item in pending]) for name in pending[0]}


def open_arrays(path: Path, specs: tuple[InputSpec, ...]) -> ArraySource:
    """The arrays of a file that the model's inputs are named after; a lone .npy array feeds a lone input.

    Axis 0 counts samples: it is the inputs' batch axis, or an axis more than the inputs have.

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
        raise CalibrationError(f"{path}: its arrays hold different numbers of samples: {counts}")
    return ArraySource(path, members, rows, stacked)
