"""An order of channels for 2:4 sparsity: it increases the score of the weights that are kept.

Any two channels can be swapped. The gain of a swap is the increase of what the two stripes of four channels keep.
Every round makes the best swaps that do not touch the same stripe, until no swap gains (Pool & Yu 2021, "Channel
Permutations for N:M Sparsity", with all pairs of channels in place of their stripe groups).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Ints = NDArray[np.int64]

ROUNDS = 60
SMALLEST_GAIN = 1e-6
"""Smallest gain, as a share of the kept score; a smaller gain is rounding noise."""
_CHUNK_VALUES = 8_000_000


def best_order(scores: Floats) -> Ints:
    """An order of channels that keeps at least as much as the given order: shape (channels,), old channel by place.

    Args:
        scores: score of each weight, not negative: shape (channels, rows), channels a multiple of 4.
    """
    order = np.arange(len(scores), dtype=np.int64)
    for _ in range(ROUNDS):
        swaps = _swaps(scores[order])
        if not swaps:
            break
        for i, j in swaps:
            order[i], order[j] = order[j], order[i]
    return order


def _swaps(a: Floats) -> list[tuple[int, int]]:
    """Pairs of places to swap, best first. No two pairs share a stripe."""
    channels, rows = a.shape
    stripe = np.arange(channels) // 4
    first, second = _best_of_the_others(a)
    kept = (first + np.maximum(second, a)).sum(axis=1)  # kept by the channel's stripe: the same for all its channels
    gain = np.empty((channels, channels))
    step = max(1, _CHUNK_VALUES // (channels * rows))
    for start in range(0, channels, step):
        block = slice(start, start + step)
        # Stripe of i with j in its place, for every pair: the best other, and the better of second best and newcomer.
        gain[block] = first[block].sum(axis=1)[:, None] + np.maximum(second[block, None], a[None]).sum(axis=2)
    gain = gain + gain.T - kept[:, None] - kept[None, :]
    gain[stripe[:, None] == stripe[None, :]] = 0.0
    found: list[tuple[int, int]] = []
    touched = np.zeros(channels // 4, dtype=bool)
    upper = np.triu(gain, 1)
    candidates = np.argwhere(upper > SMALLEST_GAIN * kept.sum() / 4)
    for i, j in candidates[np.argsort(-upper[tuple(candidates.T)], kind="stable")]:
        if not (touched[stripe[i]] or touched[stripe[j]]):
            touched[stripe[[i, j]]] = True
            found.append((int(i), int(j)))
    return found


def _best_of_the_others(a: Floats) -> tuple[Floats, Floats]:
    """Largest and second largest of the three other channels of a stripe: two arrays of shape (channels, rows)."""
    fours = a.reshape(-1, 4, a.shape[1])
    first, second = np.empty_like(fours), np.empty_like(fours)
    for member in range(4):
        others = np.sort(np.delete(fours, member, axis=1), axis=1)
        first[:, member], second[:, member] = others[:, 2], others[:, 1]
    return first.reshape(a.shape), second.reshape(a.shape)
