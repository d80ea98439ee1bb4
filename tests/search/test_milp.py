import numpy as np
import pytest

from edgeprune.search.milp import solve_around
from edgeprune.search.solver import search
from tests.search.test_solver import chain, enumerate_candidates


@pytest.mark.parametrize("seed", range(8))
def test_the_optimum_of_small_networks_is_found(seed: int) -> None:
    problem = chain(3, np.random.default_rng(seed))
    budget_us = 0.7 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4)
    optimum = min(loss for time_us, loss in enumerate_candidates(problem) if time_us <= budget_us)
    known = search(problem, budget_us)
    found = solve_around(problem, known, budget_us)
    assert found.candidate.loss == pytest.approx(optimum, rel=2e-3)
    assert found.candidate.latency_us <= budget_us
    assert found.bound is not None
    # Edges of a pruned tensor count at its known width, so the bound holds for the neighbourhood.
    assert found.bound <= known.loss + 1e-9
    assert found.gap == pytest.approx(max(found.candidate.loss - found.bound, 0) / found.candidate.loss, abs=1e-12)


def test_a_candidate_far_from_the_optimum_is_improved() -> None:
    problem = chain(4, np.random.default_rng(0))
    budget_us = 0.8 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5)
    tight = search(problem, 0.6 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 5))
    found = solve_around(problem, tight, budget_us)
    assert found.candidate.loss < tight.loss
    assert found.candidate.latency_us <= budget_us


def test_without_time_the_known_candidate_stays() -> None:
    problem = chain(3, np.random.default_rng(0))
    budget_us = 0.7 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4)
    known = search(problem, budget_us)
    found = solve_around(problem, known, budget_us, seconds=0.0)
    assert found.candidate.loss <= known.loss
