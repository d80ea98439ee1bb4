"""The samples that a student learns from, and those that decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.calibration import Calibration
from edgeprune.distill.augment import Augmenter, Views
from edgeprune.errors import CalibrationError

Tensor = Any
MOST_BYTES = 4 << 30
"""Samples beyond this are left out, evenly."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in memory.

    Attributes:
        arrays: input name -> shape (samples, ...).
        places: position of each sample in the data that was given.
    """

    arrays: dict[str, NDArray[Any]]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, which: Sequence[int], device: Any) -> dict[str, Tensor]:
        """A batch of these samples."""
        chosen = list(which)
        return {n: torch.from_numpy(np.ascontiguousarray(x[chosen])).to(device) for n, x in self.arrays.items()}


def read_samples(data: Calibration) -> Samples:
    """Read samples into memory.

    Raises:
        CalibrationError: they differ in shape, or cannot be read.
    """
    first = next(iter(data.batches(1)))
    each = sum(array.nbytes for array in first.values())
    most = max(2, MOST_BYTES // max(1, each))
    data = data.subset(most)
    parts = list(data.batches(1))
    arrays = {}
    for name in first:
        shapes = {part[name].shape for part in parts}
        if len(shapes) > 1:
            sizes = ", ".join("x".join(map(str, s)) for s in sorted(shapes)[:2])
            raise CalibrationError(f"{data.describe()}: samples of input {name!r} differ in shape ({sizes})")
        arrays[name] = np.concatenate([part[name] for part in parts])
    return Samples(arrays, np.flatnonzero(data.chosen)[: len(parts)])


def image_input(samples: Samples) -> tuple[str, int] | None:
    """The only input of the samples if it is an image, and the axis of its channels; None for other data."""
    floats = [n for n, x in samples.arrays.items() if x.dtype == np.float32]
    if len(samples.arrays) != 1 or len(floats) != 1:
        return None
    shape = samples.arrays[floats[0]].shape
    for axis in (1, 3):
        sides = [s for i, s in enumerate(shape) if i not in (0, axis)]
        if len(shape) == 4 and shape[axis] in (1, 3, 4) and min(sides) >= 16:
            return floats[0], axis
    return None


@dataclass(eq=False)
class ViewMaker:
    """Makes views of samples: images are varied, anything else stays as it is."""

    name: str | None
    axis: int
    augmenter: Augmenter | None

    @classmethod
    def of(cls, samples: Samples, generator: Any, *, geometry: bool = True) -> ViewMaker:
        """For these samples; without ``geometry`` only colours vary, so that labels of places still fit."""
        found = image_input(samples)
        if found is None:
            return cls(None, 1, None)
        name, axis = found
        x = torch.from_numpy(samples.arrays[name]).movedim(axis, 0).flatten(1)
        views = Views() if geometry else Views(flip=0.0, resized=0.0, mixed=0.0)
        return cls(name, axis, Augmenter(x.amin(1), x.amax(1), x.mean(1), x.std(1).clamp_min(1e-6), views, generator))

    def with_views(self, views: Views, generator: Any) -> ViewMaker:
        """The same with other views, drawn from another generator."""
        return replace(self, augmenter=None if self.augmenter is None else self.augmenter.with_views(views, generator))

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Views of a batch."""
        if self.name is None or self.augmenter is None:
            return batch
        images = batch[self.name].movedim(self.axis, 1)
        return batch | {self.name: self.augmenter(images).movedim(1, self.axis).contiguous()}
