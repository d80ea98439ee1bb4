from __future__ import annotations

import dataclasses
import random

import pytest

from edgeprune.bench import Measurement
from edgeprune.drift import disturbance, slower_machine
from tests.reports import latency, measurement


def shaped(drift: float, *, noise: float = 0.01, blocks: int = 24, seed: int = 0) -> Measurement:
    draw = random.Random(seed)
    series = tuple(6.0 * (1 + drift * i / (blocks - 1)) * (1 + draw.gauss(0, noise)) for i in range(blocks))
    return dataclasses.replace(measurement(6.0), blocks_ms=series)


@pytest.mark.parametrize(("drift", "said"), [(0.3, "slower"), (-0.3, "faster"), (0.0, None), (0.04, None)])
def test_a_steady_drift_is_seen(drift: float, said: str | None):
    found = disturbance(latency(shaped(drift), shaped(0.0)))
    assert (found is None) == (said is None)
    assert said is None or (found is not None and said in found and "original" in found)


def test_the_result_may_drift_too():
    assert "the result became" in str(disturbance(latency(shaped(0.0), shaped(0.3))))


def test_noise_is_seldom_taken_for_a_drift():
    found = [disturbance(latency(shaped(0.0, noise=0.1, seed=s), shaped(0.0, seed=s + 500))) for s in range(400)]
    assert sum(text is not None for text in found) / 400 <= 0.01 + 0.015  # the promised 1%, and three standard errors


def test_few_blocks_tell_nothing():
    assert disturbance(latency(shaped(0.5, blocks=6), shaped(0.5, blocks=6))) is None


def test_busy_neighbours_are_named():
    busy = dataclasses.replace(measurement(6.0), denied=0.4)
    assert disturbance(latency(busy, measurement(2.0))) == (
        "others had the processor 40% of the time while the original was measured"
    )
    aside = dataclasses.replace(measurement(2.0), set_aside=30)
    assert disturbance(latency(measurement(6.0), aside)) == (
        "30 of 50 rounds were disturbed while the result was measured"
    )


def test_another_device_is_no_yardstick():
    now, before = latency(measurement(9.0), measurement(3.0)), latency(measurement(6.0), measurement(2.0))
    assert "50% slower" in str(slower_machine(now, before))
    assert slower_machine(dataclasses.replace(now, device="other"), before) is None
    assert slower_machine(before, now) is None
