"""Intervals against published values, and against how often they hold the truth in simulations."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.outputs import certainty
from edgeprune.outputs.certainty import (
    agreement_interval,
    jackknife_interval,
    mean_interval,
    noise_interval,
    paired_interval,
    samples_for_a_point,
    score_interval,
)
from edgeprune.outputs.judging import points
from edgeprune.report import OutputScore


def test_eight_of_eight_is_not_certain():
    low, high = agreement_interval(100.0, [100.0] * 8) or (0, 0)
    assert low == pytest.approx(67.56, abs=0.01)  # Wilson: n / (n + z^2)
    assert high == 100
    assert agreement_interval(100.0, []) is None


def test_wilson_as_published():
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148.
    for hits, n, low, high in [(81, 263, 25.53, 36.62), (15, 148, 6.24, 16.05)]:
        each = [100.0] * hits + [0.0] * (n - hits)
        assert agreement_interval(100 * hits / n, each) == pytest.approx((low, high), abs=0.02)


def test_averages_over_pixels_scatter_less_than_hits():
    each = list(np.random.default_rng(0).normal(99.0, 0.2, 8))
    low, high = agreement_interval(float(np.mean(each)), each) or (0, 0)
    assert 98 < low < 99 < high < 99.5


def test_student():
    for degrees, value in [(7, 2.3646), (15, 2.1314), (30, 2.0423)]:
        assert certainty._t95(degrees) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("share", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("n", [16, 64])
def test_agreement_intervals_hold_the_truth(share: float, n: int):
    rng = np.random.default_rng(n)
    held = 0
    for _ in range(1000):
        each = 100.0 * (rng.random(n) < share)
        low, high = agreement_interval(float(each.mean()), list(each)) or (0, 0)
        held += low <= 100 * share <= high
    assert held / 1000 > 0.92  # Wilson's coverage is 95% on average, and lower for some shares


def test_noise_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        noise = rng.lognormal(-3, 0.5, 24)
        true = np.exp(-3 + 0.5**2 / 2)
        found = noise_interval(-10 * np.log10(noise.mean()), list(-10 * np.log10(noise))) or (0, 0)
        held += found[0] <= -10 * np.log10(true) <= found[1]
    assert held / 1000 > 0.9
    assert noise_interval(20.0, [20.0]) is None


def test_paired_accuracies():
    same = [100.0] * 50 + [0.0] * 50
    low, high = paired_interval(same, same) or (0, 0)
    assert low == pytest.approx(-high)
    assert 1 < high < 3
    worse = [100.0] * 40 + [0.0] * 60
    low, high = paired_interval(same, worse) or (0, 0)
    assert 0 < low < 10 < high
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        before = 100.0 * (rng.random(200) < 0.9)
        after = before * (rng.random(200) >= 0.05)
        low, high = paired_interval(before.tolist(), after.tolist()) or (0, 0)
        held += low <= 4.5 <= high
    assert held / 1000 > 0.92


def test_paired_hits_as_published():
    """Agresti & Min 2005, adjusted Wald: half a sample is added to each of the four cells."""
    before, after = [100.0] * 53 + [0.0] * 11, [100.0] * 45 + [0.0] * 8 + [100.0] * 3 + [0.0] * 8
    lost, won, n = 8.5, 3.5, 66
    half = 1.959964 * np.sqrt(lost + won - (lost - won) ** 2 / n) / n
    wanted = 100 * ((lost - won) / n - half), 100 * ((lost - won) / n + half)
    assert paired_interval(before, after) == pytest.approx(wanted)


def test_weighted_drops_hold_the_truth():
    """The share of right characters over lines of different lengths."""
    rng = np.random.default_rng(1)
    held = drops = 0
    for _ in range(500):
        lengths = rng.integers(4, 30, 120)
        before = 100 * (1 - rng.binomial(lengths, 0.02) / lengths)
        after = before - 100 * rng.binomial(lengths, 0.03) / lengths
        low, high = paired_interval(before.tolist(), after.tolist(), lengths.tolist()) or (0, 0)
        held += low <= 3 <= high
        low, high = mean_interval(before.tolist(), lengths.tolist()) or (0, 0)
        drops += low <= 98 <= high
    assert held / 500 > 0.92
    assert drops / 500 > 0.92


def test_jackknife_holds_the_truth():
    """Of a ratio of sums, which is smooth and no mean."""
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        pairs = rng.gamma(2.0, 1.0, (100, 2)) * (1.0, 2.0)
        without = [np.delete(pairs, np.s_[g::20], axis=0).sum(0) for g in range(20)]
        score = pairs[:, 0].sum() / pairs[:, 1].sum()
        low, high = jackknife_interval(score, [a / b for a, b in without], 100, 0.0) or (0, 0)
        held += low <= 0.5 <= high
    assert 0.92 < held / 400 < 0.98
    assert jackknife_interval(1.0, [1.0], 1, 1.0) is None


def test_how_many_samples_are_needed():
    assert samples_for_a_point(8, 32.4, clean=True) == 390
    low, _ = agreement_interval(100.0, [100.0] * 390) or (0, 0)
    assert 100 - low == pytest.approx(1, abs=0.03)
    assert samples_for_a_point(100, 3.0, clean=False) == 900


def test_intervals_by_unit():
    agreement = OutputScore(("y",), "class scores", "top-1 agreement", "%", 100.0, 100.0, 0.0)
    noise = OutputScore(("z",), "map", "SQNR", "dB", None, 30.0, points("dB", 30.0))
    assert score_interval(agreement, [100.0] * 8) == agreement_interval(100.0, [100.0] * 8)
    assert score_interval(noise, [29.0, 31.0]) == noise_interval(30.0, [29.0, 31.0])
