"""Multiple-choice knapsack: one item of every class, least loss within a budget (Sinha & Zoltners 1979).

Solved by dynamic programming over buckets of time. Times are rounded *up*, so a solution never exceeds the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BUCKETS = 10_000


def solve_knapsack(
    times: Sequence[NDArray[np.float64]], losses: Sequence[NDArray[np.float64]], budget: float, buckets: int = BUCKETS
) -> list[int] | None:
    """Index of the chosen item of every class, or None if no combination fits.

    Args:
        times: per class, shape (items,): time of each item; may be negative.
        losses: per class, shape (items,): loss of each item.
        budget: bound on the sum of the times, in the same unit.
        buckets: resolution: the solution may leave up to ``classes / buckets`` of the spread of the times unused.
    """
    floor = [float(t.min()) for t in times]
    room = budget - sum(floor)
    if room < 0:
        return None
    spread = sum(float(t.max()) for t in times) - sum(floor)
    unit = max(min(room, spread), 1e-12) / buckets
    # All items beyond the budget get the same weight: with a tiny unit their true weight would overflow an integer.
    weights = [
        np.minimum(np.ceil((t - f) / unit - 1e-9), buckets + 1.0).astype(np.int64)
        for t, f in zip(times, floor, strict=True)
    ]
    capacity = min(int(room / unit + 1e-9), buckets, sum(int(w.max()) for w in weights))
    best = np.zeros(capacity + 1)
    chosen = []
    for weight, loss in zip(weights, losses, strict=True):
        table = np.full((len(weight), capacity + 1), np.inf)
        for i, w in enumerate(weight):
            if w <= capacity:
                table[i, w:] = best[: capacity + 1 - w] + loss[i]
        argmin = table.argmin(axis=0)
        chosen.append(argmin.astype(np.int16))
        best = np.take_along_axis(table, argmin[None], axis=0)[0]
    if not np.isfinite(best[capacity]):
        return None
    items, left = [], capacity
    for weight, argmin in zip(reversed(weights), reversed(chosen), strict=True):
        i = int(argmin[left])
        items.append(i)
        left -= int(weight[i])
    return items[::-1]
