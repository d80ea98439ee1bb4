"""The batches that a student learns from: inputs, and what its teacher makes of them, kept where asked for again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, Spool

Arrays = dict[str, NDArray[Any]]

KEPT_BYTES = 2 << 30
"""Targets kept on disk; what does not fit is asked of the teacher each time."""


class StudentBatches:
    """Calibration samples in steps of a few batches that stay together; samples of another shape are left out.

    Args:
        spool: holds inputs and targets on disk.
        data: the samples.
        shapes: input name -> shape of one sample.
        size: samples in a batch; what does not fill one is left out.
        together: batches in a step.
        targets: what is wanted on a batch, by name.
        again: whether batches will be asked for more than once, so that their targets are worth keeping.
        seed: of which samples are together.
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
        self._room = KEPT_BYTES if again else 0
        self._places: dict[int, int] = {}
        self._target_names: tuple[str, ...] = ()
        self._names = tuple(shapes)
        count = 0
        for feeds in data.batches(1):
            if all(feeds[name].shape[1:] == shape for name, shape in shapes.items()):
                for name in self._names:
                    spool.append(f"input/{name}", feeds[name])
                count += 1
        order = np.random.default_rng(seed).permutation(count)
        batches = order[: count // size * size].reshape(-1, size)
        whole = max(1, len(batches) // together) * together
        self._steps = [batches[i : i + together] for i in range(0, min(whole, len(batches)), together)]

    def endless(self, rng: np.random.Generator) -> Iterator[list[Arrays]]:
        """All steps in random order, again and again: inputs and targets of each batch by name."""
        while self._steps:
            for number in rng.permutation(len(self._steps)):
                yield [self._batch(members) for members in self._steps[number]]

    def _batch(self, members: NDArray[np.int64]) -> Arrays:
        parts = {name: [self._spool.read(f"input/{name}", int(i)) for i in members] for name in self._names}
        feeds = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return feeds | self._targets(int(members[0]), feeds)

    def _targets(self, first: int, feeds: Arrays) -> Arrays:
        """What is wanted on the batch that begins with this sample."""
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
