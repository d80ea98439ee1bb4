"""The batches that a student learns from: inputs and the teacher's values on them, kept on disk for the next epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, Spool
from edgeprune.recovery.student import Arrays

KEPT_BYTES = 1 << 30
"""Inputs and targets kept on disk. Samples whose inputs do not fit are left out; targets that do not fit are computed
again each time."""


class StudentBatches:
    """Calibration samples in steps of a few batches. Samples of another shape are left out.

    Args:
        spool: holds inputs and targets on disk.
        data: the samples.
        shapes: input name -> shape of one sample, with its axis of length one or its fixed batch.
        size: samples in a batch; samples that do not fill a batch are left out.
        together: batches in a step.
        targets: computes the targets of a batch, by name.
        again: whether there is more than one epoch, so that targets are worth keeping.
        seed: decides which samples share a batch.
    """

    def __init__(
        self,
        spool: Spool,
        data: Calibration,
        shapes: Mapping[str, tuple[int, ...]],
        size: int,
        together: int,
        targets: Callable[[Arrays], Arrays],
        again: bool,
        seed: int = 0,
    ) -> None:
        self._spool, self._targets_of = spool, targets
        self._places: dict[int, int] = {}
        self._target_names: tuple[str, ...] = ()
        self._names = tuple(shapes)
        count, room = 0, KEPT_BYTES
        for feeds in data.batches(1):
            room -= sum(array.nbytes for array in feeds.values())
            if room < 0 and count >= size * together:
                break
            if all(feeds[name].shape == shape for name, shape in shapes.items()):
                for name in self._names:
                    spool.append(f"input/{name}", feeds[name])
                count += 1
        self._room = room if again else 0
        order = np.random.default_rng(seed).permutation(count)
        batches = order[: count // size * size].reshape(-1, size)
        whole = max(1, len(batches) // together) * together
        self._steps = [batches[i : i + together] for i in range(0, min(whole, len(batches)), together)]

    def endless(self, rng: np.random.Generator) -> Iterator[list[Arrays]]:
        """All steps in random order, epoch after epoch: inputs and targets of each batch by name."""
        while self._steps:
            for number in rng.permutation(len(self._steps)):
                yield [self._batch(members) for members in self._steps[number]]

    def _batch(self, members: NDArray[np.int64]) -> Arrays:
        parts = {name: [self._spool.read(f"input/{name}", int(i)) for i in members] for name in self._names}
        feeds = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return feeds | self._targets(int(members[0]), feeds)

    def _targets(self, first: int, feeds: Arrays) -> Arrays:
        """The targets of the batch that begins with this sample."""
        if first in self._places:
            return {n: self._spool.read(f"target/{n}", self._places[first]) for n in self._target_names}
        targets = self._targets_of(feeds)
        needed = sum(array.nbytes for array in targets.values())
        if needed <= self._room:
            self._room -= needed
            self._places[first] = len(self._places)
            self._target_names = tuple(targets)
            for name, array in targets.items():
                self._spool.append(f"target/{name}", array)
        return targets
