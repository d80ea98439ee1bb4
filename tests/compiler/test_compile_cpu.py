"""Predictions and measurements of a machine whose speed changes while it works."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.compiler.clock import Clock
from edgeprune.compiler.compile_cpu import _at_final_pace, _in_time
from edgeprune.compiler.compiled import Compiled
from edgeprune.latency.block_latency import Latency
from edgeprune.report.model import Search
from edgeprune.search.goal import Goal
from edgeprune.search.solver import Candidate
from edgeprune.search.timings import FeasibleCandidate, Timing
from edgeprune.timing.protocol import Measurement
from tests.latency.test_same_work import network
from tests.reports import measurement
from tests.search.test_solver import chain

CHOICE = Candidate(np.array([32, 32, 32]), ("fp32",) * 4, 500.0, 0.5)


def test_a_prediction_is_given_at_the_pace_of_the_final_measurement() -> None:
    problem = chain(3, np.random.default_rng(0))
    original = Measurement(3.0, 3.0, 3.0, 3.0, 6, (3.0,) * 6)
    unused = cast(Any, None)
    found = Compiled(
        unused, CHOICE, unused, unused, problem.latency, problem, {"original": original}, {}, {"fp32": CHOICE.formats}
    )
    paced = _at_final_pace(found, 2000.0)
    assert paced.candidate.latency_us == pytest.approx(1.5 * CHOICE.latency_us)
    sizes = problem.latency.sizes
    before, after = (c.latency.total_us(sizes, CHOICE.formats) for c in (found, paced))
    assert after == pytest.approx(1.5 * before)


class Counting:
    """A workbench that counts what it builds; times are what they are, one by one."""

    def __init__(self, *ms: float, delivered: ir.Model | None = None):
        self.ms, self.problem = list(ms), chain(3, np.random.default_rng(0))
        self.delivered, self.builds = delivered or network(seed=1), 0
        self.clock = Clock(cast(Any, self), Goal(speedup=2.0), 6e3)

    def stand_in(self, candidate: Candidate) -> ir.Model:
        return network()

    def built(self, candidate: Candidate) -> ir.Model:
        self.builds += 1
        return self.delivered

    def result(
        self,
        candidate: Candidate,
        latency: Latency,
        search: Search | None = None,
        model: ir.Model | None = None,
        goal: Goal | None = None,
    ) -> Compiled:
        model = self.built(candidate) if model is None else model
        measured = {"original": measurement(6.0), "result": measurement(self.ms.pop(0), seed=1)}
        unused = cast(Any, None)
        formats = {"fp32": candidate.formats}
        return Compiled(model, candidate, unused, unused, latency, self.problem, measured, {}, formats, search)

    def in_time(self) -> Compiled:
        def adjusted(feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
            return FeasibleCandidate(
                replace(feasible.candidate, loss=feasible.candidate.loss / by), feasible.timing, feasible.problem
            )

        feasible = FeasibleCandidate(CHOICE, Timing(6e3, 3e3), self.problem)
        return _in_time(self.clock, feasible, adjusted, None)


def test_what_misses_its_budget_was_never_built() -> None:
    bench = Counting(3.2, 2.95)
    found = bench.in_time()
    assert found.model is bench.delivered
    assert bench.builds == 1
    assert found.measured["result"].median_ms == pytest.approx(2.95)


def test_what_is_other_work_than_its_stand_in_is_measured_itself() -> None:
    bench = Counting(2.9, 3.3, 2.95, delivered=network(width=16))
    found = bench.in_time()
    assert found.model is bench.delivered
    assert not bench.ms
    assert found.measured["result"].median_ms == pytest.approx(2.95)
