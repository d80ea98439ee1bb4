"""The interface of sources of calibration samples, the checks of their data, and the source of random numbers.

A source is a sequence of *items*. An item is the smallest feed of the model: one row of every input, or as many rows as
the model's fixed batch has. Sources are read in order and batch by batch, so memory does not grow with their size.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CalibrationError
from edgeprune.support import random_values

Array = NDArray[np.generic]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """Type and shape of one input of the model; an open dimension is None.

    Attributes:
        name: of the input.
        dtype: of its elements.
        shape: its dimensions.
        symbols: the names of the dimensions; a fixed or nameless one has an empty text.
        batch_axis: the axis that counts samples; None if the input has none and is given whole.
    """

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]
    symbols: tuple[str, ...] = ()
    batch_axis: int | None = 0

    @property
    def rows(self) -> int:
        """Samples in the smallest feed: the fixed batch, or 1."""
        return 1 if self.batch_axis is None or not self.shape else self.shape[self.batch_axis] or 1

    def sized(self, shape: Sequence[int]) -> InputSpec:
        """The same input with these sizes instead of open ones; an open batch stays open."""
        sizes = zip(self.shape, shape, strict=True)
        kept = tuple(n if n is not None or axis == self.batch_axis else m for axis, (n, m) in enumerate(sizes))
        return replace(self, shape=kept)

    def __str__(self) -> str:
        return f"{self.dtype.name} {shape_text(self.shape)}"

    def check(self, array: Array, where: str) -> None:
        """Raise CalibrationError unless dtype and shape fit and every value is finite."""
        self.check_header(array.dtype, array.shape, where)
        check_finite(array, self.name, where)

    def check_header(
        self, dtype: np.dtype[np.generic], shape: Sequence[int], where: str, *, skipped: int | None = None
    ) -> None:
        """Raise CalibrationError unless dtype and shape fit; the axis ``skipped`` may have any length."""
        fits = len(shape) == len(self.shape) and all(
            want is None or want == got or axis == skipped
            for axis, (want, got) in enumerate(zip(self.shape, shape, strict=True))
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
    def specs(self) -> tuple[InputSpec, ...]:
        """The inputs, with the axis along which this source joins samples."""

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
        axes = {spec.name: spec.batch_axis for spec in self.specs if spec.batch_axis is not None}
        return joined((self._item(int(i)) for i in np.flatnonzero(chosen)), items_per_batch, axes)

    def _item(self, index: int) -> Feeds:
        rng = np.random.default_rng((0, index))
        feeds: Feeds = {}
        for spec in self.specs:
            # An open batch has the rows of the first input.
            shape = [d or (self.rows_per_item if axis == spec.batch_axis else 1) for axis, d in enumerate(spec.shape)]
            feeds[spec.name] = random_values(shape, spec.dtype, rng)
        return feeds


def open_random(specs: tuple[InputSpec, ...], samples: int) -> RandomSource:
    """Seeded random feeds with this many samples.

    Raises:
        CalibrationError: an input has an open dimension other than the batch; the text names all such inputs.
    """
    unknown = [s for s in specs if any(d is None for axis, d in enumerate(s.shape) if axis != s.batch_axis)]
    if unknown:
        named = ", ".join(f"{s.name!r} ({s})" for s in unknown)
        plural = "s" if len(unknown) > 1 else ""
        raise CalibrationError(f"random data for input{plural} {named} needs sizes: give --shape for each of them")
    rows = next((spec.rows for spec in specs if spec.batch_axis is not None), 1)
    return RandomSource(specs, max(1, samples // rows), rows)


def joined(items: Iterable[Feeds], items_per_batch: int, axes: Mapping[str, int]) -> Iterator[Feeds]:
    """Batches of items, joined along their batch axes; an array without one is that of the first item."""
    remaining = iter(items)
    while batch := list(itertools.islice(remaining, items_per_batch)):
        yield {
            n: np.concatenate([item[n] for item in batch], axis=axes[n]) if n in axes and len(batch) > 1 else a
            for n, a in batch[0].items()
        }


def rows_of(feeds: Mapping[str, Array], specs: Sequence[InputSpec]) -> int:
    """Samples in a feed: the length of the first input that has a batch axis, else 1."""
    found = ((feeds[s.name], s.batch_axis) for s in specs if s.batch_axis is not None)
    return next((array.shape[axis] for array, axis in found if array.ndim > axis), 1)


def crc(feeds: Mapping[str, Array]) -> int:
    """A checksum of the feeds, which shows whether a second reading gives the same data."""
    total = 0
    for name in sorted(feeds):
        total = zlib.crc32(feeds[name].tobytes(), total)
    return total
