import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.search.knapsack import solve_knapsack

classes = st.lists(
    st.lists(st.tuples(st.integers(-5, 30), st.integers(0, 20)), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(classes, st.integers(0, 60))
def test_matches_enumeration(items: list[list[tuple[int, int]]], budget: int) -> None:
    times = [np.array([t for t, _ in c], dtype=float) for c in items]
    losses = [np.array([v for _, v in c], dtype=float) for c in items]
    fits = [
        sum(v for _, v in combination)
        for combination in itertools.product(*items)
        if sum(t for t, _ in combination) <= budget
    ]
    # With one bucket per unit of time rounding up loses nothing: integer times are at the borders of buckets.
    room = budget - sum(t.min() for t in times)
    spread = sum(t.max() for t in times) - sum(t.min() for t in times)
    found = solve_knapsack(times, losses, budget, buckets=max(1, int(min(room, spread))))
    if not fits:
        assert found is None
        return
    assert found is not None
    assert sum(t[i] for t, i in zip(times, found, strict=True)) <= budget
    assert sum(v[i] for v, i in zip(losses, found, strict=True)) == min(fits)


def test_never_exceeds_the_budget_when_buckets_are_coarse() -> None:
    rng = np.random.default_rng(0)
    times = [rng.uniform(0, 1, 4) for _ in range(30)]
    losses = [rng.uniform(0, 1, 4) for _ in range(30)]
    found = solve_knapsack(times, losses, 8.0, buckets=100)
    assert found is not None
    assert sum(t[i] for t, i in zip(times, found, strict=True)) <= 8.0


def test_a_budget_that_only_the_fastest_items_meet() -> None:
    times = [np.array([0.0, 1e3]), np.array([0.0, 2e4])]
    losses = [np.array([1.0, 0.0]), np.array([1.0, 0.0])]
    assert solve_knapsack(times, losses, 0.0) == [0, 0]
    assert solve_knapsack(times, losses, 1e-13) == [0, 0]
