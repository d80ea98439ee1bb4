from __future__ import annotations

import random

import pytest

from edgeprune.timing.tail import tail_of


def test_the_percentile_and_its_bound():
    found = tail_of([float(k) for k in range(1, 1001)])
    assert found.p99_ms == 990
    assert 980 < found.low_ms < 988
    assert tail_of([2.0]).p99_ms == 2.0


def test_the_bound_holds_in_95_of_100_series():
    draw = random.Random(0)
    true = 0.99  # of uniform values
    above = sum(tail_of(sorted(draw.random() for _ in range(400))).low_ms > true for _ in range(400))
    assert above / 400 == pytest.approx(0.05, abs=0.04)
