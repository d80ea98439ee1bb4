"""Removing all units of a group, batch by batch, from all the layers that read it: one sweep gives every width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from edgeprune.groups import Ranking
from edgeprune.importance.context import Floats
from edgeprune.importance.surgeon import Ints, SmallSurgeon, Surgeon


def sweep(surgeons: Sequence[Surgeon], size: int, batch: int) -> Ranking:
    """Rank a group's units, ``batch`` at a time; the surgeons are used up."""
    remaining = np.arange(size)
    order: list[int] = []
    losses = [0.0]
    while len(remaining):
        scores = _losses(surgeons, remaining)
        count = min(batch, len(remaining))
        near = remaining[np.argsort(scores, kind="stable")[: 2 * count]]
        small = [surgeon.confined_to(near) for surgeon in surgeons]
        chosen, costs = _greedy(small, near, count)
        if 1 < count < len(near):
            swapped = _swapped(small, near, chosen)
            if set(swapped) != set(chosen):
                chosen, costs = _greedy(small, swapped, count)
        order += chosen.tolist()
        losses += (losses[-1] + np.cumsum(costs)).tolist()
        for surgeon in surgeons:
            surgeon.remove(chosen)
        remaining = np.setdiff1d(remaining, chosen)
    return Ranking(np.array(order, np.int64), np.maximum.accumulate(np.array(losses)))


def in_order(surgeons: Sequence[Surgeon], order: Ints) -> Ranking:
    """The losses of removing a group's units in a given order; the surgeons are used up."""
    losses = [0.0]
    for start in range(len(order)):
        unit = order[start : start + 1]
        losses.append(losses[-1] + max(0.0, float(_losses(surgeons, unit)[0])))
        for surgeon in surgeons:
            surgeon.remove(unit)
    return Ranking(order, np.array(losses))


class _Layer(Protocol):
    def losses(self, units: Ints) -> Floats: ...


def _losses(layers: Sequence[_Layer], units: Ints) -> Floats:
    return np.asarray(sum(layer.losses(units) for layer in layers))


def _greedy(layers: Sequence[SmallSurgeon], units: Ints, count: int) -> tuple[Ints, list[float]]:
    """Remove the cheapest of the units, ``count`` times: which, and the loss that each adds."""
    left, chosen, costs = units, [], []
    for _ in range(count):
        losses = _losses(layers, left)
        best = int(losses.argmin())
        chosen.append(left[best])
        costs.append(max(0.0, float(losses[best])))
        layers = [layer.without(left[best : best + 1]) for layer in layers]
        left = np.delete(left, best)
    return np.array(chosen, np.int64), costs


def _swapped(layers: Sequence[SmallSurgeon], near: Ints, chosen: Ints) -> Ints:
    """Exchange each of the chosen for the near unit that makes the batch cheapest; the last is the best already."""
    chosen = chosen.copy()
    for position in range(len(chosen) - 1):
        others = np.delete(chosen, position)
        rest = np.setdiff1d(near, others)
        losses = _losses([layer.without(others) for layer in layers], rest)
        chosen[position] = rest[int(losses.argmin())]
    return chosen
