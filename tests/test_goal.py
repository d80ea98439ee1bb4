import pytest

from edgeprune.goal import DEFAULT_MAX_DROP, Goal
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
def test_budgets_and_how_far_a_result_fulfils_them(goal: Goal, budget_us: float | None, fulfilled: float) -> None:
    assert goal.budget_us(6000.0) == budget_us
    assert goal.has_budget == (budget_us is not None)
    original, result = measurement(6.0), measurement(2.0)
    assert goal.fulfilled(original, result) == pytest.approx(fulfilled, rel=1e-9)
    assert goal.surely_fulfilled(original, result) == pytest.approx(fulfilled, rel=1e-9)
    assert goal.is_met(original, result)


def test_a_speedup_is_judged_by_paired_blocks() -> None:
    # The machine slowed down: both by the same factor, block by block.
    original, result = measurement(6.0, noise=0.3, seed=1), measurement(2.9, noise=0.3, seed=1)
    assert Goal(speedup=2.0).is_met(original, result)
    assert not Goal(speedup=2.1).is_met(original, result)


def test_what_is_sure_leaves_out_what_the_measurement_leaves_open() -> None:
    original, result = measurement(6.0, noise=0.3, seed=1), measurement(2.0, noise=0.3, seed=2)
    for goal in (Goal(speedup=2.0), Goal(latency_ms=2.5)):
        assert goal.surely_fulfilled(original, result) < goal.fulfilled(original, result)
        assert goal.possibly_fulfilled(original, result) > goal.fulfilled(original, result)


def test_the_limit_where_none_is_said() -> None:
    assert Goal().drop_limit == DEFAULT_MAX_DROP
    assert Goal(max_drop=0.0).drop_limit == 0.0
