"""The interface of sources of calibration samples, the checks of their data, and the source of random numbers.

A source is a sequence of *items*. An item is the smallest feed of the model: one row of every input, or as many rows as
the model's fixed batch has. Sources are read in order and batch by batch, so memory does not grow with their size.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CalibrationError

Array = NDArray[np.generic]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """Type and shape of one input of the model; an open dimension is None."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype.name} {shape_text(self.shape)}"

    def check(self, array: Array, where: str, *, skip_batch: bool = False) -> None:
        """Raise CalibrationError unless dtype and shape fit and every value is finite.

        ``skip_batch`` skips axis 0, for arrays with many samples.
        """
        self.check_header(array.dtype, array.shape, where, skip_batch=skip_batch)
        check_finite(array, self.name, where)

    def check_header(
        self, dtype: np.dtype[np.generic], shape: Sequence[int], where: str, *, skip_batch: bool = False
    ) -> None:
        """Raise CalibrationError unless dtype and shape fit."""
        first = 1 if skip_batch else 0
        fits = len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape[first:], shape[first:], strict=True)
        )
        if not fits or dtype != self.dtype:
            got = f"{dtype.name} {shape_text(shape)}"
            raise CalibrationError(f"{where}: input {self.name!r} takes {self}, but the data is {got}")


def shape_text(shape: Sequence[int | None]) -> str:
    """A shape as in "1x3x224x224"; an open dimension is "?"."""
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def check_finite(array: Array, name: str, where: str) -> None:
    """Raise CalibrationError if the data for an input has NaN or infinite values."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise CalibrationError(f"{where}: the data for input {name!r} has NaN or infinite values")


class Source(Protocol):
    """A sequence of items that can be read again."""

    @property
    def items(self) -> int:
        """Number of items."""

    @property
    def samples(self) -> int:
        """Number of samples (rows of the first input)."""

    @property
    def joins_items(self) -> bool:
        """Whether a batch may have more than one item."""

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items, in order; ``chosen`` has shape (items,)."""

    def describe(self) -> str:
        """One line for the report."""


@dataclass(frozen=True)
class RandomSource:
    """Seeded random feeds: standard normal numbers, or zeros and ones for integer inputs."""

    specs: tuple[InputSpec, ...]
    items: int
    rows_per_item: int
    joins_items = True

    @property
    def samples(self) -> int:
        """Rows of all items."""
        return self.items * self.rows_per_item

    def describe(self) -> str:
        """Says that these numbers are not data."""
        return f"random numbers ({self.samples} samples, no data)"

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items; item i is the same in every reading."""
        return joined((self._item(int(i)) for i in np.flatnonzero(chosen)), items_per_batch)

    def _item(self, index: int) -> Feeds:
        rng = np.random.default_rng((0, index))
        feeds: Feeds = {}
        for spec in self.specs:
            shape = [self.rows_per_item if axis == 0 else int(dim or 1) for axis, dim in enumerate(spec.shape)]
            if spec.dtype.kind == "f":
                feeds[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
            else:
                feeds[spec.name] = rng.integers(0, 2, shape).astype(spec.dtype)
        return feeds


def open_random(specs: tuple[InputSpec, ...], samples: int) -> RandomSource:
    """Seeded random feeds with this many samples.

    Raises:
        CalibrationError: an input has an open dimension other than the batch.
    """
    for spec in specs:
        if any(dim is None for dim in spec.shape[1:]):
            raise CalibrationError(f"random data for input {spec.name!r} ({spec}) needs its shape: give --shape")
    rows = next((spec.shape[0] or 1 for spec in specs if spec.shape), 1)
    return RandomSource(specs, max(1, samples // rows), rows)


def joined(items: Iterable[Feeds], items_per_batch: int) -> Iterator[Feeds]:
    """Batches of items, joined along axis 0; arrays without axes are those of the first item."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, items_per_batch)):
        yield {n: np.concatenate([item[n] for item in batch]) if a.ndim else a for n, a in batch[0].items()}


def crc(feeds: Mapping[str, Array]) -> int:
    """A checksum of the feeds, which shows whether a second reading gives the same data."""
    total = 0
    for name in sorted(feeds):
        total = zlib.crc32(feeds[name].tobytes(), total)
    return total
