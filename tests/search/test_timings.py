"""Conclusions from the latency of a network beside the original."""

import math

import numpy as np
import pytest

from edgeprune.search.timings import Timing, noise
from edgeprune.timing.protocol import Measurement, ratio


def test_a_share_is_relative_to_the_original() -> None:
    assert Timing(2000.0, 500.0).share == 0.25


def test_noise_is_the_standard_deviation_that_belongs_to_an_interval() -> None:
    assert noise(2.0 * math.exp(-1.96 * 0.03), 2.0 * math.exp(1.96 * 0.03)) == pytest.approx(0.03, rel=1e-3)


def test_noise_is_about_the_true_error_of_measured_ratios() -> None:
    rng, claimed, off = np.random.default_rng(0), [], []
    for _ in range(100):
        a, b = (tuple(ms * np.exp(0.05 * rng.standard_normal(60))) for ms in (6.0, 2.0))
        found = ratio(*(Measurement(0.0, 0.0, 0.0, 0.0, 60, blocks) for blocks in (a, b)))
        claimed.append(noise(found.ci_low, found.ci_high))
        off.append(math.log(found.value / 3.0))
    assert np.mean(claimed) == pytest.approx(np.std(off), rel=0.5)
