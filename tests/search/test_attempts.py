"""The final measurement decides, whatever was measured on the way."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from edgeprune.errors import BudgetError
from edgeprune.search.attempts import ATTEMPTS, build_within
from edgeprune.search.goal import Goal
from edgeprune.search.problem import Candidate
from edgeprune.search.timings import FeasibleCandidate, Timing
from edgeprune.timing.protocol import Measurement
from tests.reports import measurement
from tests.search.test_solver import chain

DENSE_MS = 6.0


@dataclass(frozen=True)
class Result:
    candidate: Candidate
    measured: dict[str, Measurement]


class Line:
    """Networks of any time: at the end they take ``drift`` times as long as was expected, one by one."""

    def __init__(self, *drifts: float, noise: float = 0.0, loss: float = 1.0):
        self.drifts, self.noise = list(drifts), noise
        self.problem = chain(2, np.random.default_rng(0))
        candidate = Candidate(np.array([16, 16]), ("fp32",) * 3, 3e3, loss)
        self.feasible = FeasibleCandidate(candidate, Timing(1e3 * DENSE_MS, 3e3), self.problem)
        self.factors: list[float] = []

    def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
        self.factors.append(by)
        us = by * feasible.measured_us
        if us < 2e3:
            raise BudgetError("too fast")
        candidate = replace(feasible.candidate, latency_us=us, loss=feasible.candidate.loss / by)
        return FeasibleCandidate(candidate, Timing(feasible.timing.baseline_us, us), feasible.problem)

    def build(self, feasible: FeasibleCandidate) -> Result:
        ms = feasible.measured_us / 1e3 * self.drifts.pop(0)
        original, result = measurement(DENSE_MS), measurement(ms, noise=self.noise, seed=1)
        return Result(feasible.candidate, {"original": original, "result": result})

    def run(self) -> Result:
        return build_within(Goal(speedup=2.0), self.feasible, self.adjusted, self.build)


def took(result: Result) -> float:
    return result.measured["result"].median_ms


def test_one_build_is_enough_where_the_measurements_agree() -> None:
    line = Line(0.99)
    assert took(line.run()) == pytest.approx(0.99 * 3.0)
    assert not line.factors


def test_a_miss_is_made_again_a_little_faster_but_not_much() -> None:
    line = Line(1.02, 1.0)
    assert took(line.run()) == pytest.approx(0.985 * 3.0)
    assert line.factors == pytest.approx([0.985 / 1.02])
    disturbed = Line(1.5, 0.68)
    disturbed.run()
    assert disturbed.factors == pytest.approx([0.985 * 0.97])


def test_what_may_be_much_faster_but_not_surely_is_kept() -> None:
    line = Line(0.85, noise=0.4)
    line.run()
    assert not line.factors


def test_what_is_much_faster_than_asked_is_made_again_a_little_slower() -> None:
    line = Line(0.8, 1.0)
    assert took(line.run()) == pytest.approx(3.0 / 1.02)


def test_the_faster_one_stays_where_the_slower_one_misses() -> None:
    line = Line(0.8, 1.1)
    assert took(line.run()) == pytest.approx(0.8 * 3.0)


def test_nothing_is_made_slower_that_has_lost_nothing() -> None:
    line = Line(0.5, loss=0.0)
    assert took(line.run()) == pytest.approx(1.5)


def test_after_the_last_attempt_it_is_said_what_was_reached() -> None:
    line = Line(*[1.2] * ATTEMPTS)
    with pytest.raises(
        BudgetError, match=rf"3\.000 ms was not met in {ATTEMPTS} tries: the last took [\d.]+ ms, 1\.\d"
    ):
        line.run()
    assert not line.drifts


def test_a_last_attempt_that_is_faster_than_asked_is_kept() -> None:
    line = Line(1.02, 1.02, 0.7)
    assert took(line.run()) < 0.8 * 3.0
    assert len(line.factors) == ATTEMPTS - 1


def test_where_nothing_is_faster_that_is_said() -> None:
    line = Line(1.05)
    line.feasible = replace(line.feasible, timing=Timing(1e3 * DENSE_MS, 1e3 * DENSE_MS))
    line.adjusted = lambda feasible, by: Line.adjusted(line, feasible, by / 4)  # type: ignore[method-assign]
    with pytest.raises(BudgetError, match="too fast"):
        line.run()
