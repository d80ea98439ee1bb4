"""The arithmetic of block optimal brain surgeon: remove units from one layer's inverse covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph import Floats
from edgeprune.importance.removal_batch import Ints, traces

GONE = -2
"""Unit of a feature that has been removed."""
DOUBLE_PRECISION_FEATURES = 1024
"""Up to this many features the inverse is computed in float64; above, in float32, in half the time: the covariances
are float32 too, and with this damping a trained ResNet-18 gets the same order, losses to 1e-4 and refits to 3e-4."""
COMPACT_BELOW = 0.8
"""Removed features are dropped from the matrices once less than this share is left. Earlier the copy costs more than it
saves."""


@dataclass
class Surgeon:
    """One layer while units are removed from it.

    Attributes:
        inverse: lower triangle of (C + r I)^-1 of the features, in Fortran order, updated in place; float32 for a wide
            layer. Or only the features' variances, with one axis.
        rows: the refitted W, one row per feature: shape (features, outputs).
        unit: unit of each feature; -1 if it belongs to none, GONE if it has been removed.
        scale: what the layer's squared error is multiplied by.
    """

    inverse: Floats
    rows: Floats
    unit: NDArray[np.int32]
    scale: float

    @classmethod
    def of(cls, c_xx: Floats, matrix: Floats, unit: NDArray[np.int32], scale: float, damping: float) -> Surgeon:
        """A layer with all its features. ``c_xx``: covariance matrix, or only variances; W: (outputs, features)."""
        rows = np.array(matrix.T, order="C")
        if c_xx.ndim == 1:
            return cls(c_xx.astype(np.float64), rows, unit.copy(), scale)
        dtype = np.float64 if len(c_xx) <= DOUBLE_PRECISION_FEATURES else np.float32
        damped = c_xx.astype(dtype).T  # the transpose of a symmetric matrix is the same in Fortran order
        level = float(np.trace(damped)) / len(damped) or 1.0
        damped.ravel(order="K")[:: len(damped) + 1] += damping * level
        return cls(_invert(damped), rows, unit.copy(), scale)

    @property
    def matrix(self) -> Floats:
        """The refitted W of the features that are left, shape (outputs, features)."""
        return np.asarray(self.rows.T)

    @property
    def left(self) -> NDArray[np.float32]:
        """The same without features that have been removed."""
        return np.ascontiguousarray(self.rows[self.unit != GONE].T, np.float32)

    def losses(self, units: Ints) -> Floats:
        """Loss of removing each unit alone: shape (len(units),)."""
        result = np.zeros(len(units))
        for which, features in blocks_of(self.unit, units):
            block = self.rows[features]
            if self.inverse.ndim == 1:
                result[which] = np.einsum("uko,uko,uk->u", block, block, self.inverse[features], optimize=True)
                continue
            inner = self._at(features[:, :, None], features[:, None, :])
            result[which] = traces(inner, block @ block.transpose(0, 2, 1))
        return self.scale * result

    def remove(self, units: Ints) -> None:
        """Remove units and refit the other features."""
        gone = np.flatnonzero(np.isin(self.unit, units))
        if not len(gone):
            return
        if self.inverse.ndim == 2:
            from scipy.linalg import blas, cholesky, solve_triangular

            across = self._at(gone[:, None], np.arange(len(self.inverse)))
            root = cholesky(across[:, gone], lower=True, check_finite=False)
            half = solve_triangular(root, across, lower=True, check_finite=False)
            self.rows -= half.T @ solve_triangular(root, self.rows[gone], lower=True, check_finite=False)
            syrk = blas.dsyrk if self.inverse.dtype == np.float64 else blas.ssyrk
            self.inverse = syrk(-1.0, half, 1.0, self.inverse, trans=1, lower=1, overwrite_c=1)
        self.unit[gone] = GONE
        stay = self.unit != GONE
        if stay.mean() < COMPACT_BELOW:
            left = np.flatnonzero(stay)
            self.inverse = self.inverse[left] if self.inverse.ndim == 1 else self.inverse.T[np.ix_(left, left)].T
            self.rows, self.unit = self.rows[left], self.unit[left]

    def _at(self, rows: Ints, columns: Ints) -> Floats:
        """Entries of the inverse, from its lower triangle."""
        return np.asarray(self.inverse[np.maximum(rows, columns), np.minimum(rows, columns)])

    def part(self, units: Ints) -> tuple[Floats, Floats, Ints]:
        """Only the features of some units: inverse covariance, ``scale * W'W``, and which unit each belongs to."""
        inside = np.flatnonzero(np.isin(self.unit, units))
        rows = self.rows[inside]
        if self.inverse.ndim == 1:
            inverse = np.diag(1 / np.maximum(self.inverse[inside], np.finfo(np.float64).tiny))
        else:
            inverse = self._at(inside[:, None], inside)
        order = np.argsort(units)
        return inverse, self.scale * rows @ rows.T, order[np.searchsorted(units, self.unit[inside], sorter=order)]


def blocks_of(unit: NDArray[np.int32], units: Ints) -> list[tuple[Ints, Ints]]:
    """Units by their number of features: (indices into ``units``, features of shape (units, features of a unit))."""
    order = np.argsort(unit, kind="stable")
    in_order = unit[order]
    first = np.searchsorted(in_order, units, "left")
    counts = np.searchsorted(in_order, units, "right") - first
    found = []
    for count in np.unique(counts[counts > 0]):
        which = np.flatnonzero(counts == count)
        found.append((which, order[first[which][:, None] + np.arange(count)]))
    return found


def _invert(matrix: Floats) -> Floats:
    """Lower triangle of the inverse of a symmetric positive definite matrix in Fortran order, in place."""
    from scipy.linalg import cho_factor, lapack

    factor, _ = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    potri = lapack.dpotri if matrix.dtype == np.float64 else lapack.spotri
    inverse, info = potri(factor, lower=1, overwrite_c=1)
    assert info == 0, info
    return np.asarray(inverse)
