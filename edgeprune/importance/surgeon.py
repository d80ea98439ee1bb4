"""The arithmetic of block optimal brain surgeon: remove units from one layer's inverse covariance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.importance.context import Floats

Ints = NDArray[np.int64]

GONE = -2
"""Unit of a feature that has been removed."""
COMPACT_BELOW = 0.8
"""Matrices are copied without removed features once fewer than this share are left; before, that costs more than it
saves."""


@dataclass
class Surgeon:
    """One layer while units are removed from it.

    Attributes:
        inverse: (C + r I)^-1 of the features, only the lower triangle, in Fortran order: it is updated in place. Or
            their variances alone, of one axis.
        matrix: the refitted W, shape (outputs, features).
        unit: unit of each feature, -1 where it belongs to none, GONE where it has been removed.
        scale: what the layer's squared error is multiplied by.
    """

    inverse: Floats
    matrix: Floats
    unit: NDArray[np.int32]
    scale: float

    @classmethod
    def operate(cls, c_xx: Floats, matrix: Floats, unit: NDArray[np.int32], scale: float, damping: float) -> Surgeon:
        """Start with all features; ``c_xx`` is a covariance matrix, or variances alone."""
        if c_xx.ndim == 1:
            return cls(c_xx.copy(), matrix.copy(), unit.copy(), scale)
        damped = c_xx.copy(order="F")
        damped.ravel(order="K")[:: len(damped) + 1] += damping * (float(np.trace(c_xx)) / len(c_xx) or 1.0)
        return cls(_invert(damped), matrix.copy(), unit.copy(), scale)

    def losses(self, units: Ints) -> Floats:
        """Loss of removing each unit alone: shape (len(units),)."""
        result = np.zeros(len(units))
        for which, features in blocks_of(self.unit, units):
            block = self.matrix[:, features].transpose(1, 2, 0)
            if self.inverse.ndim == 1:
                result[which] = np.einsum("uko,uk->u", block**2, self.inverse[features])
                continue
            inner = self._at(features[:, :, None], features[:, None, :])
            result[which] = np.einsum("uko,uko->u", block, np.linalg.solve(inner, block))
        return self.scale * result

    def remove(self, units: Ints) -> None:
        """Remove units and refit what stays."""
        gone = np.flatnonzero(np.isin(self.unit, units))
        if not len(gone):
            return
        if self.inverse.ndim == 2:
            from scipy.linalg import blas, cholesky, solve_triangular

            rows = self._at(gone[:, None], np.arange(len(self.inverse)))
            root = cholesky(rows[:, gone], lower=True, check_finite=False)
            half = solve_triangular(root, rows, lower=True, check_finite=False)
            weights = solve_triangular(root, self.matrix[:, gone].T, lower=True, check_finite=False)
            self.matrix -= weights.T @ half
            self.inverse = blas.dsyrk(-1.0, half, 1.0, self.inverse, trans=1, lower=1, overwrite_c=1)
        self.unit[gone] = GONE
        stay = self.unit != GONE
        if stay.mean() < COMPACT_BELOW:
            left = np.flatnonzero(stay)
            self.inverse = self.inverse[left] if self.inverse.ndim == 1 else self.inverse.T[np.ix_(left, left)].T
            self.matrix, self.unit = self.matrix[:, stay], self.unit[stay]

    def _at(self, rows: Ints, columns: Ints) -> Floats:
        """Entries of the inverse, from its lower triangle."""
        return np.asarray(self.inverse[np.maximum(rows, columns), np.minimum(rows, columns)])

    def confined_to(self, units: Ints) -> SmallSurgeon:
        """The same layer seen from some units alone: enough to remove among them, at a fraction of the cost."""
        inside = np.flatnonzero(np.isin(self.unit, units))
        matrix = self.matrix[:, inside]
        if self.inverse.ndim == 1:
            inverse = np.diag(1 / np.maximum(self.inverse[inside], np.finfo(np.float64).tiny))
        else:
            inverse = self._at(inside[:, None], inside)
        return SmallSurgeon(inverse, self.scale * matrix.T @ matrix, self.unit[inside])


@dataclass(frozen=True)
class SmallSurgeon:
    """Some features of a layer: their inverse covariance, ``scale * W'W`` and units. Removal gives a new one."""

    inverse: Floats
    energy: Floats
    unit: NDArray[np.int32]

    def losses(self, units: Ints) -> Floats:
        """Loss of removing each unit alone: shape (len(units),)."""
        result = np.zeros(len(units))
        for which, features in blocks_of(self.unit, units):
            at = features[:, :, None], features[:, None, :]
            result[which] = np.trace(np.linalg.solve(self.inverse[at], self.energy[at]), axis1=1, axis2=2)
        return result

    def without(self, units: Ints) -> SmallSurgeon:
        """After removing units and refitting what stays."""
        gone = np.isin(self.unit, units)
        if not gone.any():
            return self
        stay = ~gone
        across = self.inverse[np.ix_(gone, stay)]
        step = np.linalg.solve(self.inverse[np.ix_(gone, gone)], across)
        mixed = self.energy[np.ix_(stay, gone)] @ step
        energy = self.energy[np.ix_(stay, stay)] - mixed - mixed.T
        energy += step.T @ self.energy[np.ix_(gone, gone)] @ step
        return SmallSurgeon(self.inverse[np.ix_(stay, stay)] - across.T @ step, energy, self.unit[stay])


def blocks_of(unit: NDArray[np.int32], units: Ints) -> list[tuple[Ints, Ints]]:
    """Units that have features, by how many: (indices into ``units``, their features, shape (units, features each))."""
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
    """Inverse of a symmetric positive definite matrix in Fortran order, in place; the lower triangle of it."""
    from scipy.linalg import cho_factor, lapack

    factor, _ = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    inverse, info = lapack.dpotri(factor, lower=1, overwrite_c=1)
    assert info == 0, info
    return np.asarray(inverse)
