"""The final measurement decides, whatever was measured on the way."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgeprune.attempts import ATTEMPTS, build_within
from edgeprune.bench import Measurement
from edgeprune.closedloop import Met, Timing
from edgeprune.errors import BudgetError
from edgeprune.goal import Goal
from edgeprune.problem import Choice, Problem
from tests.reports import measurement
from tests.test_search import chain

DENSE_MS = 6.0


@dataclass(frozen=True)
class Result:
    choice: Choice
    measured: dict[str, Measurement]


class Line:
    """Networks of any time: on the way they take what they should, at the end ``drift`` times as long, one by one."""

    def __init__(self, *drifts: float, slowest_ms: float = DENSE_MS, noise: float = 0.0):
        self.drifts, self.slowest_ms, self.noise = list(drifts), slowest_ms, noise
        self.problem = chain(2, np.random.default_rng(0))
        self.factors: list[float] = []
        self.longer: list[float] = []

    def meet(self, problem: Problem, factor: float, first: Choice | None) -> Met:
        self.factors.append(factor)
        ms = min(0.5 * DENSE_MS * factor, self.slowest_ms)
        if ms < 1.0:
            raise BudgetError("too fast")
        choice = Choice(np.array([16, 16]), ("fp32",) * 3, 1e3 * ms, DENSE_MS - ms)
        return Met(choice, Timing(1e3 * DENSE_MS, 1e3 * ms), problem)

    def build(self, met: Met) -> Result:
        ms = met.measured_us / 1e3 * self.drifts.pop(0)
        original, result = measurement(DENSE_MS), measurement(ms, noise=self.noise, seed=1)
        return Result(met.choice, {"original": original, "result": result})

    def run(self) -> Result:
        first = Choice(np.array([32, 32]), ("fp32",) * 3, 1e3 * DENSE_MS, 0.0)
        return build_within(Goal(speedup=2.0), self.problem, first, self.meet, self.build, self.again)

    def again(self, result: Result) -> Result:
        """A longer measurement, which has no noise."""
        ms = result.choice.latency_us / 1e3 * self.longer.pop(0)
        return replace(result, measured={**result.measured, "result": measurement(ms)})


def took(result: Result) -> float:
    return result.measured["result"].median_ms


def test_one_build_is_enough_where_the_measurements_agree() -> None:
    line = Line(0.99)
    assert took(line.run()) == pytest.approx(0.99 * 3.0)
    assert line.factors == [1.0]


def test_a_miss_is_made_again_a_little_faster_but_not_much() -> None:
    line = Line(1.02, 0.99)
    assert took(line.run()) < 3.0
    assert line.factors[1] == pytest.approx(0.995 / 1.02)
    disturbed = Line(1.5, 0.99)
    disturbed.run()
    assert disturbed.factors[1] == pytest.approx(0.995 * 0.97)


def test_what_may_be_much_faster_but_not_surely_is_kept() -> None:
    line = Line(0.85, noise=0.4)
    line.run()
    assert line.factors == [1.0]


def test_what_is_much_faster_than_asked_is_made_again_a_little_slower() -> None:
    line = Line(0.8, 0.8)
    result = line.run()
    assert 0.97 * 3.0 < took(result) <= 3.0
    assert len(line.factors) == 2


def test_the_faster_one_stays_where_the_slower_one_misses() -> None:
    line = Line(0.8, 1.0)
    assert took(line.run()) == pytest.approx(0.8 * 3.0)


def test_nothing_is_made_slower_that_has_lost_nothing() -> None:
    line = Line(0.5)
    line.meet = lambda problem, factor, first: Met(replace(first, loss=0.0), Timing(1e3 * DENSE_MS, 3000.0), problem)
    assert took(line.run()) == pytest.approx(1.5)


def test_after_the_last_attempt_it_is_said_what_was_reached() -> None:
    line = Line(*[1.2] * ATTEMPTS)
    with pytest.raises(BudgetError, match=rf"3\.000 ms was not met in {ATTEMPTS} tries: the last took 3\.\d+ ms"):
        line.run()
    assert not line.drifts


def test_what_may_have_missed_by_chance_is_measured_again_before_it_is_made_again() -> None:
    line = Line(1.02, noise=0.4)
    line.longer = [0.99]
    assert took(line.run()) == pytest.approx(0.99 * 3.0)
    assert line.factors == [1.0]


def test_the_longer_measurement_counts_where_it_is_a_miss_too() -> None:
    line = Line(1.02, 0.99, noise=0.4)
    line.longer = [1.01, 0.98]
    assert took(line.run()) < 3.0
    assert line.factors[1] == pytest.approx(0.995 / 1.01)


def test_a_choice_that_was_too_good_on_the_way_is_not_met_again() -> None:
    line = Line(1.1, 1.0, slowest_ms=2.8)
    line.run()
    assert line.factors[1] * 0.5 * DENSE_MS < 2.8
