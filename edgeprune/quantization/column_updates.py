"""Update a layer's weights column by column so that its outputs change least: the core of rounding and of 2:4.

Changing the weights of a layer ``y = W h`` from W to W' costs ``tr((W' - W) H (W' - W)')``, where H is the second
moment of the input. There are two ways to choose W' under a constraint on single weights (a quantization grid, zeros at
given places):

* `sweep`: go through the columns from left to right and spread the error of each over the free ones (Frantar &
  Alistarh 2022, "Optimal Brain Compression", eq. 7; in this order and with one Cholesky factor: "GPTQ" 2022 and
  "SparseGPT" 2023);
* `descend`: coordinate descent on the loss. The loss never rises: it is a parabola in every weight, so the allowed
  value next to the minimum is the best one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Mask = NDArray[np.bool_]

DAMPING = 1e-2
"""Added to the diagonal of H, as a fraction of its mean: the value of both GPTQ and SparseGPT."""
BLOCK = 128
"""Columns that are updated before the rest: one large matrix multiplication in place of many small ones."""
SWEEPS = 4


@dataclass(frozen=True, eq=False)
class Grid:
    """The values that a row may take: ``scale``, shape (outputs,), times an integer in [-top, top]."""

    scale: Floats
    top: int

    def snap(self, values: Floats) -> Floats:
        """The nearest allowed values; shape (outputs,) or (outputs, n)."""
        scale = self.scale if values.ndim == 1 else self.scale[:, None]
        return np.asarray(np.clip(np.rint(values / scale), -self.top, self.top) * scale)


def damped(gram: Floats, damping: float = DAMPING) -> Floats:
    """H with a fraction of its mean diagonal added to the diagonal, float64; never singular."""
    result = gram.astype(np.float64)
    result.flat[:: len(result) + 1] += damping * (float(np.trace(result)) / max(len(result), 1)) or 1.0
    return result


def row_losses(change: Floats, gram: Floats) -> Floats:
    """Loss of each row for a change of shape (outputs, features): shape (outputs,)."""
    return np.asarray(np.einsum("of,of->o", change @ gram, change))


def keep_two_of_four(score: Floats) -> Mask:
    """Mask of the two highest scores in every four consecutive columns; of equal scores the first is kept.

    Shape (outputs, features).
    """
    fours = score.reshape(len(score), -1, 4)
    order = np.argsort(-fours, axis=2, kind="stable")
    mask = np.zeros(fours.shape, dtype=bool)
    np.put_along_axis(mask, order[:, :, :2], True, axis=2)
    return mask.reshape(score.shape)


def sweep(matrix: Floats, gram: Floats, *, sparse: bool = False, grid: Grid | None = None) -> Floats:
    """Weights that fulfil the constraint, computed from left to right.

    Args:
        matrix: W, shape (outputs, features).
        gram: damped H, shape (features, features), positive definite.
        sparse: whether two of every four consecutive columns become zero, by ``w^2 / [H^-1]_jj`` row by row.
        grid: the grid to which the other weights are rounded; no rounding if None.
    """
    upper = _root_of_inverse(gram)
    w = matrix.astype(np.float64)
    diagonal = np.diag(upper)
    keep = np.ones(4, dtype=bool) if not sparse else np.ones((len(w), 4), dtype=bool)
    for start in range(0, w.shape[1], BLOCK):
        stop = min(start + BLOCK, w.shape[1])
        errors = np.zeros((len(w), stop - start))
        for j in range(start, stop):
            if sparse and j % 4 == 0:
                keep = keep_two_of_four((w[:, j : j + 4] / diagonal[j : j + 4]) ** 2)
            column = np.where(keep[..., j % 4], w[:, j], 0.0)
            if grid is not None:
                column = grid.snap(column)
            error = (w[:, j] - column) / diagonal[j]
            w[:, j:stop] -= error[:, None] * upper[j, j:stop]
            w[:, j] = column
            errors[:, j - start] = error
        w[:, stop:] -= errors @ upper[start:stop, stop:]
    return w


def _root_of_inverse(gram: Floats) -> Floats:
    """The upper triangular U with ``U'U = H^-1`` and a positive diagonal.

    With J the reversal of the order, ``J H J = L L'`` gives ``H = R R'`` with ``R = J L J`` upper triangular, and so
    U is the inverse of R: a factor and a triangular inverse, where H^-1 itself takes several times the work.
    """
    from scipy.linalg import cholesky, lapack

    lower = cholesky(gram[::-1, ::-1], lower=True, check_finite=False)
    inverse, info = lapack.dtrtri(lower, lower=1, overwrite_c=1)
    assert info == 0, info
    return np.ascontiguousarray(inverse[::-1, ::-1])


def descend(
    start: Floats,
    wanted: Floats,
    gram: Floats,
    *,
    mask: Mask | None = None,
    grid: Grid | None = None,
    sweeps: int = SWEEPS,
) -> Floats:
    """Weights whose loss is at most that of ``start``, by coordinate descent.

    Args:
        start: weights that fulfil the constraint already, shape (outputs, features).
        wanted: W, the weights against which the loss is measured.
        gram: H, shape (features, features), with a positive diagonal.
        mask: where weights may differ from zero; everywhere if None.
        grid: values that weights may take; all values if None.
        sweeps: most passes over all columns.
    """
    w = start.astype(np.float64)
    slope = (w - wanted) @ gram
    for _ in range(sweeps):
        moved = False
        for first in range(0, w.shape[1], BLOCK):
            block = slice(first, min(first + BLOCK, w.shape[1]))
            local, inner, before = slope[:, block].copy(), gram[block, block], w[:, block].copy()
            for j in range(inner.shape[0]):
                best = w[:, first + j] - local[:, j] / inner[j, j]
                if grid is not None:
                    best = grid.snap(best)
                if mask is not None:
                    best = np.where(mask[:, first + j], best, 0.0)
                step = best - w[:, first + j]
                if step.any():
                    w[:, first + j] = best
                    local += step[:, None] * inner[j]
            change = w[:, block] - before
            if change.any():
                moved = True
                slope += change @ gram[block]
        if not moved:
            break
    return w


def round_rows(matrix: Floats, gram: Floats, grid: Grid) -> Floats:
    """The matrix on the grid, by a sweep and a descent. A row that loses more than by rounding is rounded instead."""
    nearest = grid.snap(matrix.astype(np.float64))
    h = damped(gram)
    found = descend(sweep(matrix, h, grid=grid), matrix, h, grid=grid, sweeps=1)
    worse = row_losses(found - matrix, gram) > row_losses(nearest - matrix, gram)
    return np.where(worse[:, None], nearest, found)
