"""Calibration samples that a user's function yields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.sources import Feeds, InputSpec, crc, rows_of
from edgeprune.errors import CalibrationError
from edgeprune.support import describe_failure, load_function

MAX_FEEDS = 1 << 16
"""A generator that yields more feeds counts as endless."""


@dataclass(frozen=True)
class FunctionSource:
    """Feeds that a user's function yields; it is called again for every reading and must yield the same feeds."""

    spec: str
    function: Callable[[], Iterable[Any]]
    specs: tuple[InputSpec, ...]
    limit: int | None
    checksums: tuple[int, ...]
    samples: int
    joins_items = False

    @property
    def items(self) -> int:
        """One for each feed."""
        return len(self.checksums)

    def describe(self) -> str:
        """The file and function."""
        return Path(self.spec).name

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """The chosen feeds as the function yields them; ``items_per_batch`` does not apply."""
        feeds = _feeds_of(self.spec, self.function, self.specs, self.limit)
        seen = 0
        for take, expected, feed in zip(chosen, self.checksums, feeds, strict=False):
            if crc(feed) != expected:
                raise CalibrationError(f"{self.spec} yields other data when called again; fix its random seed")
            seen += 1
            if take:
                yield feed
        if seen < self.items:
            raise CalibrationError(f"{self.spec} yields {seen} feeds when called again, {self.items} before")


def open_function(spec: str, specs: tuple[InputSpec, ...], limit: int | None) -> FunctionSource:
    """The feeds of a function; it is called once to count and check them.

    Raises:
        CalibrationError: the function is missing, fails, never ends, or yields feeds that do not fit.
    """
    function = load_function(spec, CalibrationError)
    checksums, samples = [], 0
    for feeds in _feeds_of(spec, function, specs, limit):
        checksums.append(crc(feeds))
        samples += rows_of(feeds, specs)
        if limit is None and len(checksums) > MAX_FEEDS:
            raise CalibrationError(f"{spec} did not end after {MAX_FEEDS} feeds; give a limit of samples")
    return FunctionSource(spec, function, specs, limit, tuple(checksums), samples)


def _feeds_of(
    spec: str, function: Callable[[], Iterable[Any]], specs: tuple[InputSpec, ...], limit: int | None
) -> Iterator[Feeds]:
    """The feeds that the function yields, checked against the model's inputs; ends after ``limit`` feeds."""
    names = {s.name for s in specs}
    try:
        feeds_iterator = iter(function())
    except Exception as error:
        raise CalibrationError(f"{spec} fails: {describe_failure(error)}") from error
    count = 0
    while limit is None or count < limit:
        try:
            feeds = next(feeds_iterator)
        except StopIteration:
            return
        except Exception as error:
            raise CalibrationError(f"{spec} fails at feed {count}: {describe_failure(error)}") from error
        if not isinstance(feeds, dict) or set(feeds) != names:
            got = sorted(map(str, feeds)) if isinstance(feeds, dict) else type(feeds).__name__
            raise CalibrationError(f"{spec}: a feed must be a dict with the arrays {sorted(names)}, got {got}")
        checked = {s.name: np.asarray(feeds[s.name]) for s in specs}
        for s in specs:
            s.check(checked[s.name], f"{spec}, feed {count}")
        yield checked
        count += 1
