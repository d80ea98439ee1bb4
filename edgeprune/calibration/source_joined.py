"""Calibration samples of several inputs, each from a place of its own: ``left=photos_l`` and ``right=photos_r``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration.source_images import ImageSource
from edgeprune.calibration.sources import Feeds, InputSpec, Source
from edgeprune.errors import CalibrationError
from edgeprune.support import is_function_spec, or_nearest, plural


@dataclass(frozen=True, eq=False)
class JoinedSource:
    """Item i has the i-th item of each source.

    Attributes:
        parts: input name -> its source.
        places: input name -> the items of its source that are used, in order.
    """

    parts: Mapping[str, Source]
    places: Mapping[str, NDArray[np.int64]]

    @property
    def specs(self) -> tuple[InputSpec, ...]:
        """Those of the sources."""
        return tuple(spec for part in self.parts.values() for spec in part.specs)

    @property
    def items(self) -> int:
        """As many as each source gives."""
        return len(next(iter(self.places.values())))

    @property
    def samples(self) -> int:
        """Rows of the first input."""
        first = next(iter(self.parts.values()))
        return self.items * first.samples // max(1, first.items)

    @property
    def joins_items(self) -> bool:
        """Whether all sources do."""
        return all(part.joins_items for part in self.parts.values())

    @property
    def notes(self) -> tuple[str, ...]:
        """Those of the sources, and how their items belong together."""
        notes = [f"input {name!r}: {note}" for name, part in self.parts.items() for note in getattr(part, "notes", ())]
        names = {name: part.names for name, part in self.parts.items() if isinstance(part, ImageSource)}
        if len(names) > 1:
            first = " with ".join(repr(found[self.places[name][0]]) for name, found in names.items())
            notes.append(f"images belong together by their order: {first}, and so on")
        return tuple(notes)

    def describe(self) -> str:
        """What each source says of itself."""
        return "; ".join(f"{name}: {part.describe()}" for name, part in self.parts.items())

    def read(self, chosen: NDArray[np.bool_], items_per_batch: int) -> Iterator[Feeds]:
        """Feeds of the chosen items."""
        readers = []
        for name, part in self.parts.items():
            mine = np.zeros(part.items, np.bool_)
            mine[self.places[name][chosen]] = True
            readers.append(part.read(mine, items_per_batch))
        for feeds in zip(*readers, strict=True):
            yield {name: array for fed in feeds for name, array in fed.items()}


def by_input(source: str | Mapping[str, str], names: tuple[str, ...]) -> dict[str, str] | None:
    """Input name -> its source, if the source says so; None if one source feeds all inputs.

    Args:
        source: a source for all inputs, ``NAME=SRC`` for one of them, or sources by input name.
        names: of the model's inputs.

    Raises:
        CalibrationError: an input has no source, or a source no input.
    """
    if isinstance(source, str):
        name, equals, rest = source.partition("=")
        if not equals or name not in names or is_function_spec(source) or Path(source).exists():
            return None
        source = {name: rest}
    if unknown := next((name for name in source if name not in names), None):
        raise CalibrationError(
            f"the model has no input {unknown!r} for {source[unknown]!r}{or_nearest(unknown, names)}"
        )
    if missing := next((name for name in names if name not in source), None):
        raise CalibrationError(f"input {missing!r} has no data: give {missing}=SRC, too")
    return {name: source[name] for name in names}


def open_joined(
    sources: Mapping[str, str],
    specs: tuple[InputSpec, ...],
    open_part: Callable[[str, InputSpec, int | None], Source],
    limit: int | None,
) -> JoinedSource:
    """The sources of all inputs, item by item. A pair with a broken image is left out.

    Args:
        sources: input name -> its source.
        specs: the inputs of the model.
        open_part: opens one source for an input, with a largest number of samples.
        limit: the largest number of samples of each source.

    Raises:
        CalibrationError: a source cannot be opened, or they have different numbers of items.
    """
    drawn = [spec for spec in specs if sources[spec.name] == "random"]
    parts = {spec.name: open_part(sources[spec.name], spec, limit) for spec in specs if spec not in drawn}
    whole = {name: part.found if isinstance(part, ImageSource) else part.items for name, part in parts.items()}
    if len(set(whole.values())) > 1:
        counts = " and ".join(f"{plural(n, 'item')} for {name!r}" for name, n in whole.items())
        raise CalibrationError(f"the inputs belong together by the order of their data, but there are {counts}")
    for spec in drawn:  # as many as of the others
        count = next(iter(whole.values()), None)
        parts[spec.name] = open_part("random", spec, None if count is None else count * spec.rows)
    parts = {spec.name: parts[spec.name] for spec in specs}
    read = {
        name: np.asarray(part.read_places if isinstance(part, ImageSource) else range(part.items))
        for name, part in parts.items()
    }
    common = read[specs[0].name]
    for places in read.values():
        common = np.intersect1d(common, places)
    if not len(common):
        raise CalibrationError("no item can be read for all inputs")
    return JoinedSource(parts, {name: np.searchsorted(places, common) for name, places in read.items()})
