from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest

from edgeprune.timing.drift import disturbance, disturbance_of_ratio
from edgeprune.timing.protocol import Measurement
from tests.reports import measurement


def shaped(drift: float, *, noise: float = 0.01, blocks: int = 24, seed: int = 0) -> Measurement:
    draw = random.Random(seed)
    series = tuple(6.0 * (1 + drift * i / (blocks - 1)) * (1 + draw.gauss(0, noise)) for i in range(blocks))
    return dataclasses.replace(measurement(6.0), blocks_ms=series)


@pytest.mark.parametrize(("drift", "said"), [(0.3, "slower"), (-0.3, "faster"), (0.0, None), (0.04, None)])
def test_a_steady_drift_is_seen(drift: float, said: str | None):
    found = disturbance(shaped(drift), shaped(0.0))
    assert (found is None) == (said is None)
    assert said is None or (found is not None and said in found.reason and "original" in found.reason)


def test_the_result_may_drift_too():
    found = disturbance(shaped(0.0), shaped(0.3))
    assert found is not None
    assert "the result became" in found.reason


def test_noise_is_seldom_taken_for_a_drift():
    found = [disturbance(shaped(0.0, noise=0.1, seed=s), shaped(0.0, seed=s + 500)) for s in range(400)]
    assert sum(text is not None for text in found) / 400 <= 0.01 + 0.015  # the promised 1%, and three standard errors


def test_few_blocks_tell_nothing():
    assert disturbance(shaped(0.5, blocks=6), shaped(0.0, blocks=6)) is None


def clocked(base_ms: float, slow: Sequence[bool], *, seed: int, factor: float = 1.4) -> Measurement:
    """Rounds on a machine that is slower in some of them."""
    draw = random.Random(seed)
    series = tuple(base_ms * (factor if s else 1.0) * (1 + draw.gauss(0, 0.01)) for s in slow)
    return dataclasses.replace(measurement(base_ms), blocks_ms=series)


@pytest.mark.parametrize(
    "slow",
    [
        pytest.param([i % 6 != 0 for i in range(24)], id="recovers again and again"),
        pytest.param([i >= 3 for i in range(24)], id="throttled soon after the start"),
        pytest.param([i != 11 for i in range(24)], id="at full speed only once"),
    ],
)
def test_a_clock_that_goes_up_and_down_is_seen(slow: list[bool]):
    found = disturbance(clocked(6.0, slow, seed=1), clocked(2.0, slow, seed=2))
    assert found is not None
    assert "for original and result, as with a changing clock" in found.reason


def test_slow_rounds_that_change_no_median_are_no_excuse():
    slow = [i % 6 == 0 for i in range(24)]
    assert disturbance(clocked(6.0, slow, seed=1), clocked(2.0, slow, seed=2)) is None


def test_a_result_that_is_fast_alone_is_no_clock():
    slow = [i != 11 for i in range(24)]
    assert disturbance(shaped(0.0), clocked(2.0, slow, seed=2)) is None


def test_busy_neighbours_are_named():
    busy = disturbance(dataclasses.replace(measurement(6.0), denied=0.4), measurement(2.0))
    assert busy is not None
    assert busy.reason == "other processes had the processor 40% of the time while the original was measured"
    assert busy.faster == 0.4
    aside = disturbance(measurement(6.0), dataclasses.replace(measurement(2.0), set_aside=30))
    assert aside is not None
    assert aside.reason == "30 of 50 rounds were disturbed while the result was measured"


def test_the_doubt_is_how_far_the_machine_was_from_its_median():
    """A ramp of 30% has its median 15% above its start; a machine that is slow from round 8 of 24 on, 40%."""
    ramp = disturbance(shaped(0.3, noise=0.0), shaped(0.3, noise=0.0))
    assert ramp is not None
    assert ramp.faster == pytest.approx(0.13, abs=0.02)
    assert ramp.slower == pytest.approx(0.11, abs=0.02)
    step = disturbance(*(clocked(ms, [i >= 8 for i in range(24)], seed=round(ms)) for ms in (6.0, 2.0)))
    assert step is not None
    assert step.faster == pytest.approx(0.4, abs=0.03)
    assert step.slower == pytest.approx(0.0, abs=0.02)
    assert step.sigma < 0.02


def test_what_slows_both_is_no_doubt_about_their_ratio():
    slow = [i >= 8 for i in range(24)]
    both = clocked(6.0, slow, seed=1), clocked(2.0, slow, seed=2)
    assert disturbance(*both) is not None
    assert disturbance_of_ratio(*both) is None
    alone = disturbance_of_ratio(shaped(0.0), shaped(0.3, seed=9))
    assert alone is not None
    assert "the result became" in alone.reason
    assert "than the original during the measurement" in alone.reason
    busy = disturbance_of_ratio(measurement(6.0), dataclasses.replace(measurement(2.0), denied=0.4))
    assert busy is not None
    assert busy.faster == 0.4
    assert disturbance_of_ratio(shaped(0.3), shaped(0.3, blocks=12)) is None
