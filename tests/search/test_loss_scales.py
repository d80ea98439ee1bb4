import itertools
from dataclasses import replace

import numpy as np
import pytest

from edgeprune.search.loss_scales import refine
from edgeprune.search.solver import Candidate, Problem, search
from tests.search.test_solver import chain


def true_error(problem: Problem):
    """The true loss of candidates: ten times the predicted one in INT8, and more than the sum of two cuts in a row."""
    calls: list[Candidate] = []

    def error(candidate: Candidate) -> float:
        calls.append(candidate)
        cut = [
            float(v[np.searchsorted(n, w)])
            for v, n, w in zip(problem.width_loss, problem.levels, candidate.widths, strict=True)
        ]
        rows = sum(5 * a * b for a, b in itertools.pairwise(cut))
        return sum(cut) + rows + sum(10 * f[n] for f, n in zip(problem.format_loss, candidate.formats, strict=True))

    return error, calls


@pytest.mark.parametrize("seed", range(4))
def test_whole_candidates_lose_less_at_the_same_predicted_latency(seed: int) -> None:
    problem = chain(6, np.random.default_rng(seed))
    budget_us = 0.7 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 7)
    start = search(problem, budget_us)
    error, calls = true_error(problem)
    found = refine(problem, start, budget_us, error, trials=40, seed=0)
    assert found.first_error == error(start)
    assert found.error == error(found.candidate) <= found.first_error
    assert found.candidate.latency_us <= budget_us + 1e-9
    assert found.trials == len({(c.widths.tobytes(), c.formats) for c in calls}) <= 40


def test_an_error_in_the_losses_of_formats_is_found() -> None:
    problem = chain(6, np.random.default_rng(0))
    wrong = replace(problem, format_loss=tuple({f: v / 100 for f, v in x.items()} for x in problem.format_loss))
    budget_us = 0.7 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 7)
    error, _ = true_error(problem)
    found = refine(wrong, search(wrong, budget_us), budget_us, error)
    assert found.error < 0.9 * found.first_error


def test_the_reweighted_problem_leads_to_the_same_candidate() -> None:
    problem = chain(5, np.random.default_rng(1))
    budget_us = 0.7 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 6)
    error, _ = true_error(problem)
    found = refine(problem, search(problem, budget_us), budget_us, error)
    assert error(search(found.problem, budget_us)) <= 1.1 * found.error


def test_one_trial_changes_nothing() -> None:
    problem = chain(3, np.random.default_rng(0))
    budget_us = 0.8 * problem.latency.total_us(problem.latency.sizes, ["fp32"] * 4)
    start = search(problem, budget_us)
    found = refine(problem, start, budget_us, lambda _: 1.0, trials=1)
    assert found.candidate is start
    assert found.problem is problem
    assert found.trials == 1
