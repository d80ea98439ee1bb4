"""The final measurement decides, not the measurements of the search."""

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


class FakeBuilds:
    """Networks of any latency; the final latency of each is its expected latency times the next of ``drifts``."""

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


def final_ms(result: Result) -> float:
    return result.measured["result"].median_ms


def test_one_build_is_enough_if_the_measurements_agree() -> None:
    builds = FakeBuilds(0.99)
    assert final_ms(builds.run()) == pytest.approx(0.99 * 3.0)
    assert not builds.factors


def test_after_a_miss_a_slightly_faster_network_is_built() -> None:
    builds = FakeBuilds(1.02, 1.0)
    assert final_ms(builds.run()) == pytest.approx(0.985 * 3.0)
    assert builds.factors == pytest.approx([0.985 / 1.02])
    disturbed = FakeBuilds(1.5, 0.68)
    disturbed.run()
    assert disturbed.factors == pytest.approx([0.985 * 0.97])


def test_a_result_that_is_faster_within_its_interval_is_kept() -> None:
    builds = FakeBuilds(0.85, noise=0.4)
    builds.run()
    assert not builds.factors


def test_a_result_that_is_much_faster_than_asked_is_built_again_slightly_slower() -> None:
    builds = FakeBuilds(0.8, 1.0)
    assert final_ms(builds.run()) == pytest.approx(3.0 / 1.02)


def test_the_faster_result_is_kept_if_the_slower_one_misses() -> None:
    builds = FakeBuilds(0.8, 1.1)
    assert final_ms(builds.run()) == pytest.approx(0.8 * 3.0)


def test_a_result_without_loss_is_not_built_again() -> None:
    builds = FakeBuilds(0.5, loss=0.0)
    assert final_ms(builds.run()) == pytest.approx(1.5)


def test_after_the_last_attempt_the_error_names_its_latency() -> None:
    builds = FakeBuilds(*[1.2] * ATTEMPTS)
    with pytest.raises(
        BudgetError, match=rf"3\.000 ms was not met in {ATTEMPTS} attempts: the last network runs in [\d.]+ ms, 1\.\d"
    ):
        builds.run()
    assert not builds.drifts


def test_a_last_attempt_that_is_faster_than_asked_is_kept() -> None:
    builds = FakeBuilds(1.02, 1.02, 0.7)
    assert final_ms(builds.run()) < 0.8 * 3.0
    assert len(builds.factors) == ATTEMPTS - 1


def test_an_error_of_the_search_is_passed_on() -> None:
    builds = FakeBuilds(1.05)
    builds.feasible = replace(builds.feasible, timing=Timing(1e3 * DENSE_MS, 1e3 * DENSE_MS))
    builds.adjusted = lambda feasible, by: FakeBuilds.adjusted(builds, feasible, by / 4)  # type: ignore[method-assign]
    with pytest.raises(BudgetError, match="too fast"):
        builds.run()
