"""What a source of calibration samples is, how its data is checked, and the random one.

A source is a sequence of *items*; an item is the smallest thing the model can be fed: one row of every
input, or as many rows as the model's batch is fixed to. Sources are read in order and in pieces, so memory
does not grow with their size.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgeprune.errors import CalibrationError

Array = NDArray[np.generic]
Feeds = dict[str, Array]


@dataclass(frozen=True)
class InputSpec:
    """What the model takes for one input; a dimension is None where the model leaves it open."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        dims = "x".join("?" if d is None else str(d) for d in self.shape) or "scalar"
        return f"{self.dtype.name} {dims}"

    def check(self, array: Array, where: str, *, skip_batch: bool = False) -> None:
        """Raise CalibrationError unless dtype and shape fit and every value is finite.

        ``skip_batch`` leaves out axis 0, for arrays that hold many samples.
        """
        self.check_header(array.dtype, array.shape, where, skip_batch=skip_batch)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise CalibrationError(f"{where}: the data for input {self.name!r} has NaN or infinite values")

    def check_header(
        self, dtype: np.dtype[np.generic], shape: Sequence[int], where: str, *, skip_batch: bool = False
    ) -> None:
        """Raise CalibrationError unless dtype and shape fit."""
        first = 1 if skip_batch else 0
        fits = len(shape) == len(self.shape) and all(
            want is None or want == got for want, got in zip(self.shape[first:], shape[first:], strict=True)
        )
        if not fits or dtype != self.dtype:
            got = f"{dtype.name} {'x'.join(map(str, shape)) or 'scalar'}"
            raise CalibrationError(f"{where}: input {self.name!r} takes {self}, but the data is {got}")


class Source(Protocol):
    """A re-readable sequence of items."""

    @property
    def items(self) -> int:
        """How many items there are."""

    @property
    def samples(self) -> int:
        """How many samples (rows of the first input) there are."""

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items, in order; ``chosen`` has shape (items,)."""

    def describe(self) -> str:
        """What this is, for the report."""


@dataclass(frozen=True)
class RandomSource:
    """Seeded random feeds: standard normal numbers, or zeros and ones for whole-number inputs."""

    specs: tuple[InputSpec, ...]
    items: int
    rows_per_item: int

    @property
    def samples(self) -> int:
        """How many rows the items hold."""
        return self.items * self.rows_per_item

    def describe(self) -> str:
        """Says aloud that this is no data."""
        return f"random numbers ({self.samples} samples, no data)"

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items; item i is the same in every reading."""
        indices = np.flatnonzero(chosen)
        for start in range(0, len(indices), items_per_batch):
            feeds = [self._item(int(i)) for i in indices[start : start + items_per_batch]]
            yield {name: np.concatenate([feed[name] for feed in feeds]) if feeds[0][name].ndim else feeds[0][name]
                   for name in feeds[0]}  # fmt: skip

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
    """Seeded random feeds of so many samples.

    Raises:
        CalibrationError: an input leaves a dimension other than the batch open.
    """
    for spec in specs:
        if any(dim is None for dim in spec.shape[1:]):
            raise CalibrationError(f"random data for input {spec.name!r} ({spec}) needs its shape: give --shape")
    rows = next((spec.shape[0] or 1 for spec in specs if spec.shape), 1)
    return RandomSource(specs, max(1, samples // rows), rows)


def crc(feeds: Mapping[str, Array]) -> int:
    """A checksum of the feeds, to see whether a second reading gives the same data."""
    total = 0
    for name in sorted(feeds):
        total = zlib.crc32(feeds[name].tobytes(), total)
    return total
