"""The results of one search for the next search of the same model."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.calibration.array_cache import ArrayCache
from edgeprune.search.search_history import NEAR, SearchHistory, load_history, save_history
from tests.search.test_solver import chain


def test_the_next_search_finds_the_results_of_the_last_one(tmp_path: Path):
    cache = ArrayCache("model", tmp_path / "statistics.sqlite")
    assert load_history(cache, {"quantize": True}) is None
    for speedup in (2.0, 2.5):
        save_history(cache, {"quantize": True}, SearchHistory(speedup, np.array([1.0, speedup]), 1.1))
    found = load_history(cache, {"quantize": True})
    assert found is not None
    assert (found.speedup, found.slowdown) == (2.5, 1.1)
    np.testing.assert_array_equal(found.factors, [1.0, 2.5])
    assert load_history(cache, {"quantize": False}) is None


@pytest.mark.parametrize(
    ("speedup", "served"),
    [(2.0, True), (2.0 * NEAR * 0.99, True), (2.0 / NEAR * 1.01, True), (2.0 * NEAR * 1.01, False)],
)
def test_it_is_valid_for_similar_speedups(speedup: float, served: bool):
    problem = chain(3, np.random.default_rng(0))
    factors = np.ones(len(problem.levels) + len(problem.format_loss))
    assert SearchHistory(2.0, factors, 1.0).serves(problem, speedup) == served


def test_it_is_not_valid_for_another_problem():
    problem = chain(3, np.random.default_rng(0))
    assert not SearchHistory(2.0, np.ones(1), 1.0).serves(problem, 2.0)
