import pytest

from edgeprune.search.goal import DEFAULT_MAX_DROP, Goal
from edgeprune.timing.protocol import ratio
from tests.reports import measurement


@pytest.mark.parametrize(
    ("goal", "budget_us", "fulfilled"),
    [
        (Goal(latency_ms=2.5), 2500.0, 1.25),
        (Goal(speedup=2.0), 3000.0, 1.5),
        (Goal(), None, float("inf")),
        (Goal(max_drop=0.5), None, float("inf")),
    ],
)
def test_budgets_and_how_far_a_result_meets_them(goal: Goal, budget_us: float | None, fulfilled: float) -> None:
    assert goal.budget_us(6000.0) == budget_us
    assert goal.has_budget == (budget_us is not None)
    original, result = measurement(6.0), measurement(2.0)
    assert goal.fulfilled(original, result) == pytest.approx(fulfilled, rel=1e-9)
    assert goal.surely_fulfilled(original, result) == pytest.approx(fulfilled, rel=1e-9)
    assert goal.is_met(original, result)


def test_a_speedup_is_computed_from_paired_blocks() -> None:
    # The machine slowed down: both models by the same factor in each block.
    original, result = measurement(6.0, noise=0.3, seed=1), measurement(2.9, noise=0.3, seed=1)
    assert Goal(speedup=2.0).is_met(original, result)
    assert not Goal(speedup=2.1).is_met(original, result)


def test_surely_fulfilled_is_the_lower_bound_of_the_interval() -> None:
    original, result = measurement(6.0, noise=0.3, seed=1), measurement(2.0, noise=0.3, seed=2)
    for goal in (Goal(speedup=2.0), Goal(latency_ms=2.5)):
        assert goal.surely_fulfilled(original, result) < goal.fulfilled(original, result)
        assert not goal.is_missed_by_chance(original, result)


def test_a_miss_may_be_chance_if_the_interval_reaches_the_goal() -> None:
    original, result = measurement(6.0, noise=0.3, seed=1), measurement(3.01, noise=0.3, seed=2)
    median_ms, speedup = result.median_ms, ratio(original, result).value
    nearly = Goal(speedup=1.005 * speedup), Goal(latency_ms=0.995 * median_ms)
    for near, far in zip(nearly, (Goal(speedup=2 * speedup), Goal(latency_ms=0.5 * median_ms)), strict=True):
        assert near.is_missed_by_chance(original, result)
        assert not far.is_missed_by_chance(original, result)
    within = Goal(speedup=0.95 * ratio(original, result).ci_high)
    assert within.speedup is not None
    assert within.speedup > speedup
    assert not within.is_missed_by_chance(original, result)
    assert not Goal(speedup=2.0).is_missed_by_chance(measurement(6.0), measurement(3.01))


def test_the_default_limit_on_the_drop() -> None:
    assert Goal().drop_limit == DEFAULT_MAX_DROP
    assert Goal(max_drop=0.0).drop_limit == 0.0


def test_a_limit_on_the_drop_beside_a_budget() -> None:
    assert Goal(speedup=2, max_drop=1).exceeds(1.5)
    assert not Goal(speedup=2, max_drop=1).exceeds(0.5)
    assert not Goal(speedup=2).exceeds(99)
    assert not Goal(max_drop=1).exceeds(1.5), "alone it is what the search obeys"


def test_no_budget_says_what_it_does() -> None:
    assert Goal(speedup=2).without_budget is Goal(max_drop=1).without_budget is None
    assert "the fastest network that loses at most 1 point" in str(Goal().without_budget)
    assert "nothing is cut" in str(Goal(prune=False).without_budget)
