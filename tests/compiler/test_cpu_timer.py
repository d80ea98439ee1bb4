"""Measurements on a machine whose speed changes, and proxies that differ from the delivered model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.compiler.cpu_timer import CpuTimer
from edgeprune.compiler.pipeline import _confirmed
from edgeprune.compiler.timer import Timed
from edgeprune.search.goal import Goal
from edgeprune.search.open_loop import OpenLoop
from edgeprune.search.problem import Candidate
from edgeprune.search.timings import FeasibleCandidate, Timing
from edgeprune.support.progress import Progress
from edgeprune.timing.protocol import Measurement
from tests.latency.test_same_work import network
from tests.reports import measurement
from tests.search.test_solver import chain

CANDIDATE = Candidate(np.array([32, 32, 32]), ("fp32",) * 4, 500.0, 0.5)
PROBLEM = chain(3, np.random.default_rng(0))


@dataclass
class FakeHarness:
    """Measures the original at 6 ms, and the result at the given milliseconds, one by one."""

    ms: list[float]
    baseline_ms: list[float] = field(default_factory=list)

    def quick(self, models: Mapping[str, ir.Model]) -> dict[str, Measurement]:
        baseline_ms = self.baseline_ms.pop(0) if self.baseline_ms else 6.0
        return {"original": measurement(baseline_ms), "result": measurement(self.ms.pop(0), seed=1)}

    def final(self, models: Mapping[str, ir.Model], *_: Any) -> dict[str, Measurement]:
        return self.quick(models)


@dataclass
class TimerSetup:
    """A timer with a fake harness; it counts the models that are built for delivery."""

    harness: FakeHarness
    delivered: ir.Model
    built: int = 0

    def timer(self, goal: Goal) -> CpuTimer:
        variant = cast(Any, None)
        return CpuTimer(
            goal, cast(Any, self.harness), lambda _: network(), self.deliver, {}, variant, PROBLEM.latency, Progress()
        )

    def deliver(self, candidate: Candidate) -> ir.Model:
        self.built += 1
        return self.delivered

    def confirmed(self) -> Timed:
        goal = Goal(speedup=2.0)

        class Loop(OpenLoop):
            def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
                slower = replace(feasible.candidate, loss=feasible.candidate.loss / by)
                return replace(feasible, candidate=slower)

        feasible = FeasibleCandidate(CANDIDATE, Timing(6e3, 3e3), PROBLEM)
        return _confirmed(goal, self.timer(goal), feasible, Loop(PROBLEM, 3e3, 6e3), None)


def timer_setup(*ms: float, delivered: ir.Model | None = None) -> TimerSetup:
    return TimerSetup(FakeHarness(list(ms)), delivered or network(seed=1))


def test_a_candidate_that_misses_the_budget_is_not_built() -> None:
    fake = timer_setup(3.2, 2.95)
    found = fake.confirmed()
    assert found.models["result"] is fake.delivered
    assert fake.built == 1
    assert found.measured is not None
    assert found.measured["result"].median_ms == pytest.approx(2.95)


def test_a_model_with_other_sizes_than_its_proxy_is_measured_itself() -> None:
    fake = timer_setup(2.9, 3.3, 2.95, delivered=network(width=16))
    found = fake.confirmed()
    assert found.models["result"] is fake.delivered
    assert not fake.harness.ms
    assert found.measured is not None
    assert found.measured["result"].median_ms == pytest.approx(2.95)


@pytest.mark.parametrize(
    ("goal", "expected"),
    [(Goal(speedup=2.0), Timing(1000.0, 400.0)), (Goal(latency_ms=0.5), Timing(2000.0, 800.0))],
)
def test_a_speed_up_uses_the_first_speed_of_the_machine_and_a_latency_the_present_one(
    goal: Goal, expected: Timing
) -> None:
    timer = TimerSetup(FakeHarness([0.5, 0.8], [1.0, 2.0]), network()).timer(goal)
    timer.timing(CANDIDATE)
    timed = timer.timing(CANDIDATE)
    assert (timed.baseline_us, timed.measured_us) == pytest.approx((expected.baseline_us, expected.measured_us))


def test_a_final_measurement_of_the_search_is_not_repeated() -> None:
    fake = timer_setup(2.95)
    timer = fake.timer(Goal(speedup=2.0))
    timed = timer.timing_in_final(CANDIDATE)
    assert timed.share == pytest.approx(2.95 / 6.0)
    found = timer.final(FeasibleCandidate(CANDIDATE, timed, PROBLEM))
    assert found.measured is not None
    assert found.measured["result"].median_ms == pytest.approx(2.95)
    assert not fake.harness.ms


def test_a_prediction_is_scaled_to_the_final_measurement() -> None:
    original = Measurement(3.0, 3.0, 3.0, 3.0, 6, (3.0,) * 6)
    found = Timed(CANDIDATE, PROBLEM.latency, {}, {}, {"original": original})
    paced = found.at_pace_of(Timing(2000.0, 1000.0))
    assert paced.candidate.latency_us == pytest.approx(1.5 * CANDIDATE.latency_us)
    sizes = PROBLEM.latency.sizes
    before, after = (t.latency.total_us(sizes, CANDIDATE.formats) for t in (found, paced))
    assert after == pytest.approx(1.5 * before)
    predicted = Timed(CANDIDATE, PROBLEM.latency, {})
    assert predicted.at_pace_of(Timing(2000.0, 1000.0)) is predicted
