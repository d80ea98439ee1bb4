"""2:4 masks of one layer."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.quantization.column_updates import Grid, damped, row_losses
from edgeprune.quantization.two_four import METHODS, Method, is_two_of_four, sparsify_matrix
from tests.quantization.test_column_updates import grid_of, layer


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rounded", [False, True])
def test_every_method_gives_two_of_four(method: Method, rounded: bool) -> None:
    matrix, gram = layer(4)
    grid = grid_of(matrix, 127) if rounded else None
    found = sparsify_matrix(matrix, gram, method, grid)
    assert is_two_of_four(found)
    if grid is not None:
        np.testing.assert_allclose(found, grid.snap(found), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_slower_methods_lose_less_row_by_row(seed: int) -> None:
    matrix, gram = layer(seed)
    h = damped(gram)
    loss = {m: row_losses(sparsify_matrix(matrix, gram, m) - matrix, h) for m in METHODS}
    assert loss["wanda"].sum() < 0.8 * loss["magnitude"].sum()
    assert (loss["sparsegpt"] <= loss["wanda"] * (1 + 1e-9)).all()
    assert (loss["awp"] <= loss["wanda"] * (1 + 1e-9)).all()
    assert loss["sparsegpt"].sum() < loss["wanda"].sum()
    assert loss["awp"].sum() < loss["wanda"].sum()


@pytest.mark.parametrize("seed", range(4))
def test_with_one_refit_sparsegpt_still_loses_less_than_magnitude(seed: int) -> None:
    matrix, gram = layer(seed)
    found = sparsify_matrix(matrix, gram, "sparsegpt", refined=False)
    loss = row_losses(found - matrix, damped(gram)).sum()
    best = row_losses(sparsify_matrix(matrix, gram, "sparsegpt") - matrix, damped(gram)).sum()
    assert is_two_of_four(found)
    simple = row_losses(sparsify_matrix(matrix, gram, "magnitude") - matrix, damped(gram)).sum()
    assert best <= loss < 0.8 * simple


@pytest.mark.parametrize("method", ["wanda", "sparsegpt", "awp"])
def test_features_that_others_imply_cost_nothing(method: Method) -> None:
    """In every four columns the last two are a tenth of the first two: they can go without any loss."""
    rng = np.random.default_rng(5)
    half = rng.standard_normal((4000, 8))
    x = half[:, [0, 1, 0, 1, 2, 3, 2, 3, 4, 5, 4, 5, 6, 7, 6, 7]] * np.tile([1, 1, 0.1, 0.1], 4)
    matrix = 1 + rng.random((6, 16))
    gram = x.T @ x / len(x)
    found = sparsify_matrix(matrix, gram, method)
    assert (found.reshape(6, 4, 4)[:, :, 2:] == 0).all()
    loss, energy = row_losses(found - matrix, gram).sum(), row_losses(matrix, gram).sum()
    assert loss < 1e-6 * energy  # the damping of 1% causes this loss
    assert row_losses(sparsify_matrix(matrix, gram, "magnitude") - matrix, gram).sum() > 4e-3 * energy


def test_is_two_of_four_counts_along_columns() -> None:
    assert is_two_of_four(np.array([[1, 0, 0, 2, 0, 0, 0, 0]]))
    assert not is_two_of_four(np.array([[1, 3, 0, 2]]))
    assert not is_two_of_four(np.array([[1, 0, 0]]))


def test_a_grid_with_one_step_still_holds() -> None:
    matrix, gram = layer(6)
    found = sparsify_matrix(matrix, gram, "sparsegpt", Grid(np.abs(matrix).max(axis=1), 1))
    assert is_two_of_four(found)
