"""Intervals against published values, and against how often they hold the truth in simulations."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.outputs import certainty
from edgeprune.outputs.certainty import (
    agreement_interval,
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
    same = [True] * 50 + [False] * 50
    low, high = paired_interval(same, same)
    assert low == pytest.approx(-high)
    assert 1 < high < 3
    worse = [True] * 40 + [False] * 60
    low, high = paired_interval(same, worse)
    assert 0 < low < 10 < high
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        before = rng.random(200) < 0.9
        after = before & (rng.random(200) >= 0.05)
        low, high = paired_interval(before.tolist(), after.tolist())
        held += low <= 4.5 <= high
    assert held / 1000 > 0.92


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
