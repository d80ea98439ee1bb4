"""Calibration samples from .npz and .npy files, streamed: only one batch of rows is in memory at a time."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
class Place:
    """How an array gives the items of an input.

    Attributes:
        axis: axis of the array along which the items lie; None if the whole array is given with every item.
        stacked: whether that axis is an additional one, before those of the input.
        rows: length of an item along the axis.
        items: number of items; 1 for a whole array.
        shape: shape of a whole array as the input takes it.
    """

    axis: int | None
    stacked: bool
    rows: int
    items: int
    shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArraySource:
    """Arrays of an .npz or .npy file, one for each input, streamed in order.

    An array whose samples do not lie along its first axis is in memory as a whole.
    """

    path: Path
    members: Mapping[str, Member]
    places: Mapping[str, Place]
    specs: tuple[InputSpec, ...]
    """The inputs, with the batch axis along which the file has their samples; None for those given whole."""
    joins_items = True

    @property
    def items(self) -> int:
        """Number of items; rows after the last whole item are not used."""
        return min((p.items for p in self.places.values() if p.axis is not None), default=1)

    @property
    def samples(self) -> int:
        """Rows of all items of the first input with samples."""
        return self.items * next((p.rows for p in self.places.values() if p.axis is not None), 1)

    def describe(self) -> str:
        """The file's name, and the inputs that get the same array in every sample."""
        whole = [name for name, place in self.places.items() if place.axis is None and self.items > 1]
        same = f" (the same {', '.join(whole)} in every sample)" if whole else ""
        return f"{self.path.name}{same}"

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items; only one batch of each array is in memory."""
        with ExitStack() as stack:
            axes = {spec.name: spec.batch_axis for spec in self.specs if spec.batch_axis is not None}
            try:
                readers = {name: self._reader(name, stack) for name in self.members}
                items = ({name: next(reader) for name, reader in readers.items()} for _ in chosen)
                yield from joined(itertools.compress(items, chosen), items_per_batch, axes)
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise CalibrationError(f"{self.path} can't be read to its end: {error}") from error

    def _reader(self, name: str, stack: ExitStack) -> Iterator[Array]:
        """The items of one array, one after the other, without end."""
        member, place = self.members[name], self.places[name]
        stream = member.open(stack)
        if place.axis == 0:
            shape = member.shape[1:] if place.stacked else (place.rows, *member.shape[1:])
            while True:
                yield _read(stream, member, shape)
        whole = _read(stream, member, member.shape)
        if place.axis is None:
            yield from itertools.repeat(whole.reshape(place.shape))
        else:
            for start in range(0, whole.shape[place.axis], place.rows):
                yield np.take(whole, range(start, start + place.rows), axis=place.axis)


def _read(stream: IO[bytes], member: Member, shape: tuple[int, ...]) -> Array:
    size = int(np.prod(shape)) * member.dtype.itemsize
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("it ends early")
    return np.frombuffer(data, member.dtype).reshape(shape)


def open_arrays(path: Path, specs: tuple[InputSpec, ...]) -> ArraySource:
    """The arrays of a file with the names of the model's inputs; one .npy array feeds the only input.

    Samples lie along the inputs' batch axis, or along an additional axis before those of the inputs. A single number,
    and an array of one sample beside arrays of several, is given with every sample.

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
    places = {spec.name: _place(spec, members[spec.name], path) for spec in specs}
    counts = {spec.name: places[spec.name].items for spec in specs if places[spec.name].axis is not None}
    longest = max(counts.values(), default=1)
    for spec in specs:
        if spec.name in counts and (counts[spec.name] == 1 < longest or _of_another_batch(spec, specs, counts)):
            shape = members[spec.name].shape
            whole = shape[1:] if places[spec.name].stacked else shape
            places[spec.name] = Place(None, False, 1, 1, whole)
            del counts[spec.name]
    if len(set(counts.values())) > 1:
        raise CalibrationError(f"{path}: its arrays have different numbers of samples: {counts}")
    return ArraySource(path, members, places, tuple(_as_placed(s, places[s.name]) for s in specs))


def _as_placed(spec: InputSpec, place: Place) -> InputSpec:
    return spec if place.stacked else replace(spec, batch_axis=place.axis)


def _place(spec: InputSpec, member: Member, path: Path) -> Place:
    """Where an array has its items."""
    shape, rank = member.shape, len(spec.shape)
    if len(shape) == rank + 1:
        spec.check_header(member.dtype, shape[1:], str(path))
        return Place(0, True, 1, _at_least_one(shape[0], spec, path))
    if not shape and int(np.prod([d or 1 for d in spec.shape])) == 1:
        spec.check_header(member.dtype, tuple(1 for _ in spec.shape), str(path))
        return Place(None, False, 1, 1, tuple(1 for _ in spec.shape))
    if not shape:
        raise CalibrationError(f"{path}: the array for input {spec.name!r} is a single number")
    axis = spec.batch_axis
    if len(shape) == rank and axis is not None and spec.shape[axis] is not None:
        # A fixed batch: the samples lie along the one axis that is longer than the input's.
        other = [a for a, (n, m) in enumerate(zip(spec.shape, shape, strict=True)) if n is not None and n != m]
        axis = other[0] if len(other) == 1 and not shape[other[0]] % (spec.shape[other[0]] or 1) else axis
    spec.check_header(member.dtype, shape, str(path), skipped=axis)
    if axis is None:
        return Place(None, False, 1, 1, shape)
    rows = spec.shape[axis] or 1
    if shape[axis] < rows:
        raise CalibrationError(f"{path}: input {spec.name!r} takes {spec}, but the data has only {shape[axis]} samples")
    return Place(axis, False, rows, _at_least_one(shape[axis] // rows, spec, path))


def _at_least_one(items: int, spec: InputSpec, path: Path) -> int:
    if items == 0:
        raise CalibrationError(f"{path}: input {spec.name!r} takes {spec}, but the data has only 0 samples")
    return items


def _of_another_batch(spec: InputSpec, specs: tuple[InputSpec, ...], counts: Mapping[str, int]) -> bool:
    """Whether an input counts something else than the first one does, as its size's name says, such as texts."""

    def symbol(s: InputSpec) -> str:
        return s.symbols[s.batch_axis].partition("\0")[0] if s.symbols and s.batch_axis is not None else ""

    first = next(s for s in specs if s.name in counts)
    named = bool(symbol(spec)) and bool(symbol(first)) and symbol(spec) != symbol(first)
    return named and counts[spec.name] != counts[first.name]
