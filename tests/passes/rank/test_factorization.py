"""Matrices of low rank that change a layer's outputs least on given inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.passes.rank.factorization import DAMPING, principal

Array = NDArray[Any]


def samples(rows: int, features: int, seed: int, decay: float = 1.0) -> Array:
    """Correlated inputs with a mean, shape (rows, features)."""
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((features, features)) * (np.arange(features) + 1.0) ** -decay
    return rng.standard_normal((rows, features)) @ mix.T + rng.standard_normal(features)


def error(matrix: Array, x: Array, rank: int, covariance: Array, mean: Array | None) -> float:
    """Mean squared change of ``W x`` when W has this rank, over the variance of ``W x``."""
    found = principal(matrix, covariance, mean).factors(rank)
    y = x @ matrix.T
    changed = x @ (found.second @ found.first).T + (found.offset if mean is not None else 0.0)
    return float(((y - changed) ** 2).sum() / ((y - y.mean(0)) ** 2).sum())


@given(
    outputs=st.integers(1, 12),
    features=st.integers(1, 12),
    seed=st.integers(0, 2**16),
    rank=st.integers(1, 12),
    diagonal=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_lost_share_is_that_of_the_best_matrix_of_the_rank(
    outputs: int, features: int, seed: int, rank: int, diagonal: bool
) -> None:
    """By the singular values of the whitened matrix; at full rank the product is the matrix."""
    x = samples(200, features, seed)
    matrix = np.random.default_rng(seed + 1).standard_normal((outputs, features))
    c = np.cov(x.T, bias=True).reshape(features, features)
    given_ = np.diag(c).copy() if diagonal else c
    damped = (np.diag(given_) if diagonal else c) + DAMPING * np.diag(c).mean() * np.eye(features)
    singular = np.linalg.svd(matrix @ np.linalg.cholesky(damped), compute_uv=False)
    found = principal(matrix, given_, x.mean(0))
    assert found.lost(rank) == pytest.approx(float((singular[rank:] ** 2).sum() / (singular**2).sum()), abs=1e-7)
    factors = found.factors(rank)
    rest = matrix - factors.second @ factors.first
    assert np.trace(rest @ damped @ rest.T) == pytest.approx(float((singular[rank:] ** 2).sum()), rel=1e-6, abs=1e-6)
    if rank >= min(outputs, features):
        assert np.abs(rest).max() <= 1e-5 * max(1.0, float(np.abs(matrix).max()))


@pytest.mark.parametrize("outputs", [12, 48])
def test_correlated_inputs_are_used(outputs: int) -> None:
    """The plain SVD of the weights loses several times as much."""
    x, matrix = samples(4000, 24, 3, decay=1.5), np.random.default_rng(4).standard_normal((outputs, 24))
    aware = error(matrix, x, 6, np.cov(x.T, bias=True), x.mean(0))
    plain = error(matrix, x, 6, np.ones(24), x.mean(0))
    assert aware < plain / 3


def test_the_mean_of_what_is_lost_stays() -> None:
    x, matrix = samples(4000, 24, 5) + 10.0, np.random.default_rng(6).standard_normal((12, 24))
    found = principal(matrix, np.cov(x.T, bias=True), x.mean(0)).factors(3)
    changed = x @ (found.second @ found.first).T + found.offset
    assert np.allclose(changed.mean(0), (x @ matrix.T).mean(0))


def test_inner_values_have_unit_variance() -> None:
    """One INT8 scale serves all of them."""
    x, matrix = samples(4000, 24, 7), np.random.default_rng(8).standard_normal((12, 24))
    inner = x @ principal(matrix, np.cov(x.T, bias=True), x.mean(0)).factors(6).first.T
    assert np.allclose(inner.var(0), 1.0, atol=0.2)


def test_a_matrix_of_zeros_has_one_direction_of_nothing() -> None:
    found = principal(np.zeros((4, 6)), np.eye(6))
    assert found.lost(1) == 0.0
    assert np.isfinite(found.factors(1).second @ found.factors(1).first).all()


def test_a_rank_is_positive() -> None:
    with pytest.raises(PassError, match="a rank must be positive, not 0"):
        principal(np.eye(3), np.eye(3)).factors(0)
