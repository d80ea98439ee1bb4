"""Predictions and measurements of a machine whose speed changes while it works."""

from typing import Any, cast

import numpy as np
import pytest

from edgeprune.bench import Measurement
from edgeprune.compile_cpu import _at_final_pace, _timing_at
from edgeprune.compiled import Compiled
from edgeprune.goal import Goal
from edgeprune.search import Choice
from edgeprune.timings import Begun, Timing
from tests.test_search import chain

CHOICE = Choice(np.array([32, 32, 32]), ("fp32",) * 4, 500.0, 0.5)


class SlowingDown:
    """A workbench on a machine that takes twice as long as when the loop began."""

    def timing(self, choice: Choice, *, sure: bool = False, relative: bool = True) -> Timing:
        return Timing(2000.0, 800.0)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [(Goal(speedup=2.0), Timing(1000.0, 400.0)), (Goal(latency_ms=0.5), Timing(2000.0, 800.0))],
)
def test_a_speed_up_is_pursued_at_one_pace_and_a_latency_at_the_present_one(goal: Goal, expected: Timing) -> None:
    begun = Begun(CHOICE, Timing(1000.0, 600.0))
    timed = _timing_at(begun, cast(Any, SlowingDown()), goal)(CHOICE, sure=True)
    assert (timed.baseline_us, timed.measured_us) == pytest.approx((expected.baseline_us, expected.measured_us))


def test_a_prediction_is_given_at_the_pace_of_the_final_measurement() -> None:
    problem = chain(3, np.random.default_rng(0))
    original = Measurement(3.0, 3.0, 3.0, 3.0, 6, (3.0,) * 6)
    unused = cast(Any, None)
    found = Compiled(
        unused, CHOICE, unused, unused, problem.latency, problem, {"original": original}, {}, {"fp32": CHOICE.formats}
    )
    paced = _at_final_pace(found, 2000.0)
    assert paced.choice.latency_us == pytest.approx(1.5 * CHOICE.latency_us)
    sizes = problem.latency.sizes
    before, after = (c.latency.total_us(sizes, CHOICE.formats) for c in (found, paced))
    assert after == pytest.approx(1.5 * before)
