"""Times for a moment and for good, at one pace where a multiple of the original's speed is wanted."""

from typing import Any, cast

import pytest

from edgeprune.compiler.clock import Clock
from edgeprune.search.goal import Goal
from edgeprune.search.solver import Candidate
from edgeprune.search.timings import Timing
from tests.compiler.test_compile_cpu import CHOICE, Counting


class SlowingDown:
    """A workbench on a machine that takes twice as long as when the loop began."""

    def timing(self, candidate: Candidate, *, relative: bool = True) -> Timing:
        return Timing(2000.0, 800.0)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [(Goal(speedup=2.0), Timing(1000.0, 400.0)), (Goal(latency_ms=0.5), Timing(2000.0, 800.0))],
)
def test_a_speed_up_is_pursued_at_one_pace_and_a_latency_at_the_present_one(goal: Goal, expected: Timing) -> None:
    timed = Clock(cast(Any, SlowingDown()), goal, 1000.0).shortly(CHOICE)
    assert (timed.baseline_us, timed.measured_us) == pytest.approx((expected.baseline_us, expected.measured_us))


def test_what_was_measured_for_good_on_the_way_is_not_measured_again() -> None:
    bench = Counting(2.95)
    timed = bench.clock.well(CHOICE)
    assert timed.share == pytest.approx(2.95 / 6.0)
    assert timed.baseline_us == pytest.approx(6e3)
    assert bench.in_time().measured["result"].median_ms == pytest.approx(2.95)
    assert not bench.ms
