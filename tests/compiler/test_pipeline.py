"""The network and the outcome for a goal, with an artificial network and predicted latencies."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from edgeprune.build import Learning
from edgeprune.compiler.pipeline import Reached, reach
from edgeprune.compiler.session import CompileSession, Prices
from edgeprune.compiler.timer import Predictor, Timer
from edgeprune.errors import BudgetError
from edgeprune.latency.block_latency import LatencyModel
from edgeprune.search.goal import DEFAULT_MAX_DROP, Goal
from edgeprune.search.problem import Candidate
from edgeprune.support.progress import Progress
from tests.search.test_solver import chain

PROBLEM = chain(3, np.random.default_rng(0))
SIZES = PROBLEM.latency.sizes
FLOAT_US = PROBLEM.latency.total_us(SIZES, ("fp32",) * 4)
INT8_US = PROBLEM.latency.total_us(SIZES, ("int8",) * 4)


@dataclass(frozen=True, eq=False, kw_only=True)
class FakeSession(CompileSession):
    """A session of the chain; INT8 loses ``int8_drop`` points, and a model is the text of its widths and formats."""

    block_name = "blocks"
    learns_to_accept = False
    as_asked = True

    int8_drop: float = 0.5

    def timer(self, goal: Goal) -> Timer:
        return Predictor(goal, self.latency, FLOAT_US, self.variants(goal.drop_limit), "analytic")

    def predicted_baseline_us(self, latency: Any) -> float:
        return FLOAT_US


def session(*, int8_drop: float = 0.5, error: float = 0.0) -> FakeSession:
    latency = replace(cast(LatencyModel, PROBLEM.latency), error=error)
    losses = PROBLEM.format_loss
    unused = cast(Any, None)

    def drop(candidate: Candidate) -> float:
        return int8_drop if "int8" in candidate.formats else 0.0

    def is_within(candidate: Candidate, limit: float) -> bool:
        return drop(candidate) <= limit

    builder = SimpleNamespace(
        float_format="fp32", learning=Learning(), recover=lambda *_: False,
        build=lambda widths, formats: f"{widths} {formats}",
    )  # fmt: skip
    return FakeSession(
        opened=unused,
        target="made-up",
        network=cast(Any, SimpleNamespace(blocks=range(4))),
        builder=cast(Any, builder),
        prices=Prices(latency, PROBLEM.levels, lambda: (losses, losses), lambda: (PROBLEM.levels, PROBLEM.width_loss)),
        evaluator=unused,
        scores=cast(Any, SimpleNamespace(drop=drop, is_within=is_within, forget=lambda _: None)),
        cache=unused,
        conditions=unused,
        progress=Progress(),
        expected=unused,
        int8_drop=int8_drop,
    )


def reached(goal: Goal, **settings: float) -> Reached:
    return reach(session(**settings), goal)


def test_a_budget_that_an_unpruned_network_meets_cuts_nothing() -> None:
    found = reached(Goal(latency_ms=1.01 * INT8_US / 1e3))
    assert (found.candidate.widths == SIZES).all()
    assert found.candidate.latency_us <= 1.01 * INT8_US
    assert found.outcome.variant == "unpruned-int8"
    loose = reached(Goal(latency_ms=1.1 * FLOAT_US / 1e3))
    assert loose.candidate.loss == 0


def test_int8_beyond_the_limit_of_accuracy_is_not_used_uncut() -> None:
    goal = Goal(latency_ms=1.01 * INT8_US / 1e3)
    found, unpruned = reached(goal, int8_drop=5.0), reached(goal, int8_drop=0.5)
    assert found.candidate.loss <= unpruned.candidate.loss  # the search has widths too
    assert found.candidate.latency_us <= 1.01 * INT8_US


def test_a_tight_budget_cuts_with_the_error_of_the_prediction_as_margin() -> None:
    budget_us = 0.8 * INT8_US
    found = reached(Goal(latency_ms=budget_us / 1e3), error=0.05)
    assert (found.candidate.widths < SIZES).any()
    assert found.candidate.latency_us <= budget_us / 1.05
    assert found.outcome.variant == "compressed"
    assert "error of 5% as margin" in found.outcome.reason
    assert found.timed.measured is None


@pytest.mark.parametrize(
    ("goal", "limit"),
    [
        (Goal(latency_ms=0.8 * INT8_US / 1e3), math.inf),
        (Goal(latency_ms=0.8 * INT8_US / 1e3, max_drop=2.0), 2.0),
        (Goal(max_drop=0.7), 0.7),
        (Goal(), DEFAULT_MAX_DROP),
    ],
)
def test_learned_weights_may_lose_no_more_than_the_result(
    goal: Goal, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    recovered = CompileSession.recovered
    monkeypatch.setattr(CompileSession, "recovered", lambda s, c, most: limits.append(most) or recovered(s, c, most))
    assert reached(goal).outcome.variant == "compressed"
    assert set(limits) == {limit}


def test_an_impossible_budget_is_refused() -> None:
    with pytest.raises(BudgetError, match="predicted to run in less"):
        reached(Goal(latency_ms=0.01 * INT8_US / 1e3))


def test_without_a_budget_the_fastest_within_the_limit_is_returned() -> None:
    careful, bold = reached(Goal(max_drop=0.1)), reached(Goal(max_drop=1.0))
    assert "int8" not in careful.candidate.formats
    assert "int8" in bold.candidate.formats
    assert bold.candidate.latency_us < careful.candidate.latency_us


def test_a_network_that_must_not_be_cut_is_only_lowered() -> None:
    found = reached(Goal(prune=False))
    assert (found.candidate.widths == SIZES).all()
    assert found.outcome.variant == "unpruned-int8"
    assert found.outcome.pays
