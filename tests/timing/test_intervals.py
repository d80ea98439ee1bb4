from __future__ import annotations

import math
import random
from itertools import zip_longest

import pytest

from edgeprune.timing.intervals import median_interval


@pytest.mark.parametrize(("n", "trimmed"), [(6, 0), (8, 0), (9, 1), (12, 2), (20, 5), (30, 9), (100, 39)])
def test_interval_bounds_are_the_order_statistics_of_the_sign_test(n: int, trimmed: int):
    """Ranks as in any table of the sign test at 5%, for an order in which neighbours are not alike."""
    rising = [float(i) for i in range(n)]
    halves = rising[: n // 2], rising[n // 2 :]
    alternating = [x for pair in zip_longest(halves[1], halves[0]) for x in pair if x is not None]
    interval = median_interval(alternating)
    assert (interval.low, interval.value, interval.high) == (trimmed, (n - 1) / 2, n - 1 - trimmed)


def test_few_values_get_a_wide_interval():
    interval = median_interval([1.0, 3.0, 2.0])
    assert interval.value == 2.0
    assert interval.low < 0.5
    assert interval.high > 3.5


def test_interval_covers_the_median_as_often_as_it_says():
    draw = random.Random(1)
    hits = 0
    for _ in range(400):
        interval = median_interval([draw.expovariate(1.0) for _ in range(15)])
        hits += interval.low <= math.log(2) <= interval.high
    assert hits / 400 > 0.93  # 95% less two standard errors of 400 draws


def test_interval_covers_the_median_of_correlated_blocks():
    draw = random.Random(2)
    hits = 0
    for _ in range(400):
        value, values = draw.gauss(0, 1), []
        for _ in range(60):
            value = 0.6 * value + 0.8 * draw.gauss(0, 1)
            values.append(value)
        interval = median_interval(values)
        hits += interval.low <= 0.0 <= interval.high
    assert hits / 400 > 0.90


def test_constant_values_have_an_interval_of_no_width():
    interval = median_interval([3.0] * 12)
    assert (interval.low, interval.value, interval.high) == (3.0, 3.0, 3.0)
