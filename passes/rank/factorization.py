"""A matrix as the product of two thin ones, so that its outputs change least on given inputs.

For a layer ``y = W x + b`` whose inputs have covariance C = L L', the best W' of rank r minimises

    tr((W - W') C (W - W')')

It is the truncated SVD of the whitened matrix: W L = U S V', and W' = U_r S_r V_r' L^-1 = U_r U_r' W (ASVD, Yuan et al.
2023; SVD-LLM, Wang et al. 2024, equation 5; for convolutions Zhang et al. 2015, "Accelerating Very Deep Convolutional
Networks"). So the columns of U are the principal directions of the layer's outputs, and no inverse is needed: the
eigenvectors of the smaller one of W C W' and L' W' W L suffice. The mean of what is lost goes into the bias.

The inner values U_r' W x are scaled to unit variance, so that one INT8 scale serves all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeprune.errors import PassError
from edgeprune.graph import Floats

DAMPING = 1e-3
"""Added to the diagonal of C, as a fraction of its mean: directions that no sample shows count a little, too."""

_LEAST = 1e-24
"""Directions of less variance than this share of the largest one hold rounding errors alone."""


@dataclass(frozen=True, eq=False)
class Factors:
    """``W' = second @ first``; ``offset`` of shape (outputs,) is added to the bias.

    Attributes:
        first: shape (rank, features).
        second: shape (outputs, rank).
        offset: shape (outputs,).
    """

    first: Floats
    second: Floats
    offset: Floats


@dataclass(frozen=True, eq=False)
class Principal:
    """A layer's matrix and the principal directions of its outputs, of most variance first.

    Attributes:
        matrix: W, shape (outputs, features).
        mean: of the inputs, shape (features,); zeros if the layer has no bias for the mean of what is lost.
        directions: orthonormal columns, shape (outputs, count).
        energy: variance of the outputs along each, shape (count,).
    """

    matrix: Floats
    mean: Floats
    directions: Floats
    energy: Floats

    def lost(self, rank: int) -> float:
        """Share of the variance of the outputs that rank ``rank`` loses."""
        total = float(self.energy.sum())
        return float(self.energy[rank:].sum()) / total if total > 0 else 0.0

    def factors(self, rank: int) -> Factors:
        """The two matrices of this rank, at most the number of directions.

        Raises:
            PassError: the rank is not positive.
        """
        if rank < 1:
            raise PassError(f"a rank must be positive, not {rank}")
        basis, spread = self.directions[:, :rank], np.sqrt(self.energy[:rank])
        inner = basis.T @ self.matrix
        offset = self.matrix @ self.mean - basis @ (inner @ self.mean)
        return Factors(inner / spread[:, None], basis * spread, offset)


def principal(matrix: Floats, covariance: Floats, mean: Floats | None = None) -> Principal:
    """The principal directions of a layer's outputs.

    Args:
        matrix: W, shape (outputs, features).
        covariance: of the inputs, shape (features, features), or its diagonal, shape (features,): centred if ``mean``
            is given, else their second moment.
        mean: of the inputs, shape (features,), if a bias can take up the mean of what is lost.
    """
    w = matrix.astype(np.float64)
    spread = covariance if covariance.ndim == 1 else np.diag(covariance)
    damping = DAMPING * max(float(spread.mean()), 1e-12)
    outputs, features = w.shape
    if covariance.ndim == 1:
        root = np.sqrt(covariance + damping)
        whitened = w * root
    elif outputs <= features:
        gram = w @ covariance @ w.T + damping * (w @ w.T)
        return _principal(w, mean, *_descending((gram + gram.T) / 2))
    else:
        whitened = w @ np.linalg.cholesky(covariance + damping * np.eye(features))
    if outputs <= features:
        return _principal(w, mean, *_descending(whitened @ whitened.T))
    energy, inner = _descending(whitened.T @ whitened)
    return _principal(w, mean, energy, whitened @ (inner / np.sqrt(np.maximum(energy, 1e-300))))


def _descending(gram: Floats) -> tuple[Floats, Floats]:
    energy, vectors = np.linalg.eigh(gram)
    return energy[::-1], vectors[:, ::-1]


def _principal(w: Floats, mean: Floats | None, energy: Floats, directions: Floats) -> Principal:
    real = energy > _LEAST * max(float(energy[0]), 1e-300)
    where = np.zeros(w.shape[1]) if mean is None else mean.astype(np.float64)
    return Principal(w, where, directions[:, real], energy[real])
