"""Orders of channels for 2:4."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeprune.quantization.channel_stripes import best_order


def kept_by_stripes(scores: np.ndarray, order: np.ndarray) -> float:
    """Sum of the two best of every four channels in this order, over all rows; ``scores`` is (channels, rows)."""
    fours = np.sort(scores[order].reshape(-1, 4, scores.shape[1]), axis=1)
    return float(fours[:, 2:].sum())


def test_large_channels_that_share_a_four_are_spread() -> None:
    """Four large and four empty channels: apart, two in each four, nothing large is lost."""
    scores = np.zeros((8, 3))
    scores[:4] = 1 + np.arange(12).reshape(4, 3)
    order = best_order(scores)
    assert sorted(order) == list(range(8))
    assert kept_by_stripes(scores, np.arange(8)) < scores.sum()
    assert kept_by_stripes(scores, order) == scores.sum()


@pytest.mark.parametrize("seed", range(4))
def test_no_single_swap_is_left_that_gains(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.random((16, 20)) * rng.random((16, 1)) ** 3
    order = best_order(scores)
    kept = kept_by_stripes(scores, order)
    assert kept > kept_by_stripes(scores, np.arange(16))
    for i, j in itertools.combinations(range(16), 2):
        other = order.copy()
        other[[i, j]] = other[[j, i]]
        assert kept_by_stripes(scores, other) <= kept * (1 + 1e-5)


def test_equal_channels_stay_where_they_are() -> None:
    np.testing.assert_array_equal(best_order(np.ones((12, 5))), np.arange(12))
