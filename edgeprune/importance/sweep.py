"""Remove all units of a group, batch by batch, from all layers that read it: one sweep gives the loss of each width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from edgeprune.dependency import Ranking
from edgeprune.graph import Floats
from edgeprune.importance.removal_batch import Ints, UnitBlocks, choose_batch
from edgeprune.importance.surgeon import Surgeon

Seen = Callable[[Ints], None]
"""Called with the units that are left after every batch."""


def sweep(surgeons: Sequence[Surgeon], size: int, batch: int, seen: Seen = lambda _: None) -> Ranking:
    """Rank a group's units, ``batch`` at a time; the surgeons are used up."""
    remaining = np.arange(size)
    order: list[int] = []
    losses = [0.0]
    while len(remaining):
        scores = _losses(surgeons, remaining)
        count = min(batch, len(remaining))
        lowest = remaining[np.argsort(scores, kind="stable")[: 2 * count]]
        which, costs = choose_batch(UnitBlocks.of([surgeon.part(lowest) for surgeon in surgeons], len(lowest)), count)
        chosen = lowest[which]
        order += chosen.tolist()
        losses += (losses[-1] + np.cumsum(costs)).tolist()
        for surgeon in surgeons:
            surgeon.remove(chosen)
        remaining = np.setdiff1d(remaining, chosen)
        seen(remaining)
    return Ranking(np.array(order, np.int64), np.maximum.accumulate(np.array(losses)))


def in_order(surgeons: Sequence[Surgeon], order: Ints, seen: Seen = lambda _: None) -> Ranking:
    """The losses of removing a group's units in a given order; the surgeons are used up."""
    losses = [0.0]
    for start in range(len(order)):
        unit = order[start : start + 1]
        losses.append(losses[-1] + max(0.0, float(_losses(surgeons, unit)[0])))
        for surgeon in surgeons:
            surgeon.remove(unit)
        seen(np.sort(order[start + 1 :]))
    return Ranking(order, np.array(losses))


def _losses(surgeons: Sequence[Surgeon], units: Ints) -> Floats:
    return np.asarray(sum(surgeon.losses(units) for surgeon in surgeons))
