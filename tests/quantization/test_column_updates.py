"""Columns: rounding and zeros that change a layer's outputs least."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.quantization import column_updates
from edgeprune.quantization.column_updates import Grid, damped, descend, keep_two_of_four, round_rows, row_losses, sweep


def layer(seed: int, outputs: int = 12, features: int = 40) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A weight and the second moment of correlated features."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((features, features)) * (rng.random(features) + 0.05)
    x = rng.standard_normal((500, features)) @ mix
    return rng.standard_normal((outputs, features)), x.T @ x / len(x)


def grid_of(matrix: NDArray[np.float64], top: int) -> Grid:
    return Grid(np.abs(matrix).max(axis=1) / top, top)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top", [7, 127])
def test_rounding_loses_no_more_than_the_nearest_values_in_any_row(seed: int, top: int) -> None:
    matrix, gram = layer(seed)
    grid = grid_of(matrix, top)
    found = round_rows(matrix, gram, grid)
    nearest = row_losses(grid.snap(matrix) - matrix, gram)
    mine = row_losses(found - matrix, gram)
    assert (mine <= nearest * (1 + 1e-9)).all()
    assert mine.sum() < 0.7 * nearest.sum(), "correlated features leave much to gain"
    steps = found / grid.scale[:, None]
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert np.abs(steps).max() <= top + 1e-9


def test_uncorrelated_features_leave_nothing_to_gain() -> None:
    matrix, _ = layer(0)
    grid = grid_of(matrix, 7)
    np.testing.assert_array_equal(round_rows(matrix, np.eye(matrix.shape[1]), grid), grid.snap(matrix))


def test_equal_features_round_as_one() -> None:
    """Two features that are always equal count by the sum of their weights: 0.5 + 0.5 is one step, not zero or two."""
    matrix, gram = np.array([[0.5, 0.5]]), np.ones((2, 2))
    found = round_rows(matrix, gram, Grid(np.ones(1), 7))
    assert found.sum() == 1


def test_the_root_of_the_inverse_is_upper_triangular_and_unique() -> None:
    gram = damped(layer(7)[1])
    upper = column_updates._root_of_inverse(gram)
    np.testing.assert_allclose(upper.T @ upper @ gram, np.eye(len(gram)), atol=1e-9)
    np.testing.assert_array_equal(upper, np.triu(upper))
    assert (np.diag(upper) > 0).all()


def test_sweep_without_a_constraint_changes_nothing() -> None:
    matrix, gram = layer(1)
    np.testing.assert_allclose(sweep(matrix, damped(gram)), matrix, atol=1e-12)


@pytest.mark.parametrize("features", [40, 200])
def test_sweep_of_one_column_is_the_exact_surgeon(features: int) -> None:
    """After the last column of the first four has gone, the rest is the least-squares refit (Hassibi & Stork 1993)."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((900, features)) @ rng.standard_normal((features, features))
    gram = damped(x.T @ x / len(x))
    matrix = rng.standard_normal((3, features)) * 10
    matrix[:, [0, 1]] = 1e-7  # always the two that go, in the first four
    found = sweep(matrix, gram, sparse=True)
    assert (found[:, :2] == 0).all()
    assert ((found.reshape(3, -1, 4) != 0).sum(axis=2) == 2).all()


def test_descent_reaches_the_least_squares_solution() -> None:
    matrix, gram = layer(3, outputs=2, features=8)
    h = damped(gram)
    mask = np.ones(matrix.shape, dtype=bool)
    mask[:, [2, 5]] = False
    found = np.where(mask, matrix, 0.0)
    for _ in range(60):
        found = descend(found, matrix, h, mask=mask)
    kept = [0, 1, 3, 4, 6, 7]
    exact = np.zeros_like(matrix)
    exact[:, kept] = matrix @ h[:, kept] @ np.linalg.inv(h[np.ix_(kept, kept)])
    np.testing.assert_allclose(found, exact, rtol=1e-6, atol=1e-8)


def test_keeps_the_two_largest_of_four_and_the_first_of_equals() -> None:
    mask = keep_two_of_four(np.array([[1.0, 3, 2, 0, 5, 5, 5, 5]]))
    assert mask.astype(int).tolist() == [[0, 1, 1, 0, 1, 1, 0, 0]]
