"""Ridge regression from streamed statistics: refit a linear map so that it gives the target outputs on changed inputs.

For rows x (features) and y (target outputs), with centred covariances C and means m, the map W is moved to

    W + D,  D = (C_yx - W C_xx) (C_xx + r I)^-1,  b = m_y - (W + D) m_x

which is ridge regression of the residual of W. Strong damping r leaves W as it is and corrects the bias alone.
If x are the kept features of a layer and y its dense outputs, D is ``W_P C_PS (C_SS + r I)^-1``, the compensation of
CORP, OBC and ZipLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]

DAMPINGS = (1e-8, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)
"""Values of r that are tried, as fractions of the mean diagonal of C_xx."""
DOUBLE_PRECISION_FEATURES = 1024
"""Up to this many features rows are multiplied in float64; above, in float32 after centring, and summed in float64."""

WAITING_ROWS = 512
"""Rows that wait to be multiplied at once, at most; a network has many layers whose rows wait."""
CENTRED_VALUES = 1 << 22
"""Values that are centred at a time: the rows of a wide layer are not copied as a whole."""

SCORED_VALUES = 4_000_000
"""Values of held-out outputs on which a damping is scored."""
SCORED_OUTPUTS = 128
"""Outputs of a layer on which a damping is scored; twice as many at most. A solution for all of them takes longer than
the factor."""

_STRIPE = 256

SMALL_FEATURES = 64
"""Up to this many features all groups (of a depthwise layer, for example) are computed at once."""


@dataclass
class Moments:
    """Running sums over rows, for a number of independent groups. Only these matrices are kept, never the rows.

    Attributes:
        diagonal: keep only variances of x, for layers too wide for a matrix; xx then has shape (groups, features).
        dtype: type of the rows and of xx. float32 is enough for strong damping: half the memory, and faster. None means
            float64, but float32 for the rows of layers with more than ``DOUBLE_PRECISION_FEATURES`` features.
        rows: number of rows added.
        pilot_x, pilot_y: shapes (groups, features) and (groups, outputs); means of the first batch. The sums are of
            differences to them, so that a large mean costs no precision.
        sum_x, sum_y: the same shapes.
        xx, yx: shapes (groups, features, features) and (groups, outputs, features). Only the upper triangle of xx is
            filled; after `settle` xx is the centred covariance.
    """

    diagonal: bool = False
    dtype: type[np.floating[Any]] | None = None
    rows: int = 0
    pilot_x: Floats = field(default_factory=lambda: np.zeros(0))
    pilot_y: Floats = field(default_factory=lambda: np.zeros(0))
    sum_x: Floats = field(default_factory=lambda: np.zeros(0))
    sum_y: Floats = field(default_factory=lambda: np.zeros(0))
    xx: Floats = field(default_factory=lambda: np.zeros(0))
    yx: Floats = field(default_factory=lambda: np.zeros(0))
    settled: bool = False
    _waiting: list[tuple[Floats, Floats]] = field(default_factory=list, repr=False)

    def add(self, x: Floats, y: Floats | None = None) -> None:
        """Add rows x, shape (groups, rows, features), and y, shape (groups, rows, outputs), if there are outputs."""
        y = np.zeros((*x.shape[:2], 0), x.dtype) if y is None else y
        if not self.pilot_x.size:
            groups, _, features = x.shape
            self.pilot_x, self.pilot_y = x.mean(axis=1, dtype=np.float64), y.mean(axis=1, dtype=np.float64)
            self.sum_x, self.sum_y = np.zeros_like(self.pilot_x), np.zeros_like(self.pilot_y)
            kind = np.float64 if self.diagonal else self.dtype or np.float64
            self.xx = np.zeros((groups, features) if self.diagonal else (groups, features, features), kind)
            self.yx = np.zeros((groups, y.shape[2], 0 if self.diagonal else features))
        self._waiting.append((x, y))
        self.rows += x.shape[1]
        # With few rows adding up the result costs more than the multiplication: wait for enough of them.
        if sum(rows.shape[1] for rows, _ in self._waiting) >= min(WAITING_ROWS, x.shape[2]):
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        x = self._waiting[0][0] if len(self._waiting) == 1 else np.concatenate([r for r, _ in self._waiting], axis=1)
        y = self._waiting[0][1] if len(self._waiting) == 1 else np.concatenate([r for _, r in self._waiting], axis=1)
        self._waiting.clear()
        at_once = max(1, CENTRED_VALUES // max(1, len(x) * x.shape[2]))
        for start in range(0, x.shape[1], at_once):
            self._add_centred(x[:, start : start + at_once], y[:, start : start + at_once])

    def _add_centred(self, x: Floats, y: Floats) -> None:
        features = x.shape[2]
        dtype = self.dtype or (np.float64 if features <= DOUBLE_PRECISION_FEATURES else np.float32)
        x = (x - self.pilot_x[:, None]).astype(dtype, copy=False)
        y = (y - self.pilot_y[:, None]).astype(dtype, copy=False)
        self.sum_x += x.sum(axis=1, dtype=np.float64)
        self.sum_y += y.sum(axis=1, dtype=np.float64)
        if self.diagonal:
            self.xx += (x**2).sum(axis=1, dtype=np.float64)
        elif features <= SMALL_FEATURES:
            self.xx += x.transpose(0, 2, 1) @ x
            self.yx += y.transpose(0, 2, 1) @ x
        else:
            for group in range(len(x)):
                _add_square(x[group], self.xx[group])
                self.yx[group] += y[group].T @ x[group]

    def means(self) -> tuple[Floats, Floats]:
        """Means of x and of y: shapes (groups, features) and (groups, outputs)."""
        self._flush()
        return self.pilot_x + self.sum_x / self.rows, self.pilot_y + self.sum_y / self.rows

    def covariances(self, centred: bool = True) -> tuple[Floats, Floats]:
        """C_xx and C_yx, centred or as plain second moments."""
        self._flush()
        mean_x, mean_y = self.sum_x / self.rows, self.sum_y / self.rows
        c_xx = self.xx if self.settled else self._centred(self.xx.copy())
        if self.diagonal:
            return c_xx, self.yx
        c_yx = self.yx / self.rows - mean_y[:, :, None] * mean_x[:, None, :]
        if not centred:
            mean_x, mean_y = self.means()
            c_xx = c_xx + mean_x[:, :, None] * mean_x[:, None, :]
            c_yx += mean_y[:, :, None] * mean_x[:, None, :]
        return c_xx, c_yx

    def settle(self) -> None:
        """Call after the last row: `covariances` then returns the held matrix, which the caller must not change."""
        self._flush()
        self.xx, self.settled = self._centred(self.xx), True

    def _centred(self, xx: Floats) -> Floats:
        """Turn the sums into covariances, in place."""
        xx /= self.rows
        mean = (self.sum_x / self.rows).astype(xx.dtype)
        if self.diagonal:
            xx -= mean**2
            return xx
        for matrix, m in zip(xx, mean, strict=True):
            for start in range(0, len(m), _STRIPE):  # in stripes, so that no second matrix is needed
                stop = start + _STRIPE
                matrix[start:stop, start:] -= m[start:stop, None] * m[start:]
                square = matrix[start:stop, start:stop]
                square[:] = np.triu(square) + np.triu(square, 1).T
                matrix[stop:, start:stop] = matrix[start:stop, stop:].T
        return xx


def _add_square(x: Floats, total: Floats) -> None:
    """Add ``x'x`` to the upper triangle of a square matrix, in place."""
    from scipy.linalg import blas

    syrk = blas.dsyrk if x.dtype == np.float64 else blas.ssyrk
    if total.dtype == x.dtype:  # BLAS wants Fortran order, which the transpose has
        syrk(1.0, x.T, 1.0, total.T, lower=1, overwrite_c=1)
    else:
        total += syrk(1.0, x.T, lower=1).T


@dataclass(frozen=True)
class Fit:
    """A refitted map.

    Attributes:
        matrix: shape (groups, outputs, features).
        offset: shape (groups, outputs).
        damping: the chosen r as a fraction of the mean diagonal; infinite where only the bias changed.
        error_before, error_after: squared error on held-out rows, divided by the variance of the target outputs there.
    """

    matrix: Floats
    offset: Floats
    damping: float
    error_before: float
    error_after: float


def refit(
    candidates: Sequence[Moments],
    held_out: Sequence[tuple[Floats, Floats]],
    matrix: Floats,
    *,
    intercept: bool = True,
    dampings: Sequence[float] = DAMPINGS,
) -> Fit:
    """Choose statistics and damping with the least error on held-out rows, then refit ``matrix`` with them.

    Of a wide layer some outputs are enough to choose; all are refitted, on all rows.

    Args:
        candidates: statistics of the rows to fit on, from different inputs; the held-out rows are added to the chosen.
        held_out: pairs (x, y) of rows that are kept apart.
        matrix: the map to start from, shape (groups, outputs, features).
        intercept: whether there is a bias to fit; without one the moments are not centred.
        dampings: the candidates; infinite damping (only the bias changes) is always one of them.
    """
    matrix = matrix.astype(np.float64)
    found = [_choose(fitted, held_out, matrix, intercept, dampings) for fitted in candidates]
    best = min(range(len(found)), key=lambda i: found[i].after)
    fitted, choice = candidates[best], found[best]
    for rows_x, rows_y in held_out:
        fitted.add(rows_x, rows_y)
    if np.isfinite(choice.damping):
        c_xx, c_yx = fitted.covariances(intercept)
        step = _solve(c_xx, c_yx - matrix @ c_xx, choice.damping)
        matrix = matrix if step is None else matrix + step
    if not intercept:
        return Fit(matrix, np.zeros(matrix.shape[:2]), choice.damping, choice.before, choice.after)
    mean_x, mean_y = fitted.means()
    offset = mean_y - np.einsum("gok,gk->go", matrix, mean_x)
    return Fit(matrix, offset, choice.damping, choice.before, choice.after)


@dataclass(frozen=True)
class _Choice:
    """The best damping, and the error before and after; see `Fit`."""

    damping: float
    before: float
    after: float


def _choose(
    fitted: Moments,
    held_out: Sequence[tuple[Floats, Floats]],
    matrix: Floats,
    intercept: bool,
    dampings: Sequence[float],
) -> _Choice:
    few = slice(None, None, max(1, matrix.shape[1] // SCORED_OUTPUTS))
    matrix = matrix[:, few]
    mean_x, mean_y = fitted.means() if intercept else (np.zeros(1), np.zeros(1))
    values = sum(rows.shape[0] * rows.shape[1] for rows, _ in held_out) * matrix.shape[1]
    every = max(1, values // SCORED_VALUES)
    x = np.concatenate([rows[:, ::every] for rows, _ in held_out], axis=1) - mean_x[..., None, :]
    y = np.concatenate([rows[:, ::every] for _, rows in held_out], axis=1) - mean_y[..., None, :]
    y = y[:, :, few]
    energy = float(((y - y.mean(axis=1, keepdims=True)) ** 2).sum()) or 1.0
    residual = y - x @ matrix.transpose(0, 2, 1)
    before = float((residual**2).sum()) / energy
    best = _Choice(np.inf, before, before)
    if not len(dampings):
        return best
    c_xx, c_yx = fitted.covariances(intercept)
    left = c_yx[:, few] - matrix @ c_xx
    for damping in sorted(dampings, reverse=True):
        step = _solve(c_xx, left, damping)
        if step is None:
            break
        error = float(((residual - x @ step.transpose(0, 2, 1)) ** 2).sum()) / energy
        if error < best.after:
            best = _Choice(damping, before, error)
        elif error > 1.2 * best.after:
            break
    return best


def _solve(c_xx: Floats, left: Floats, damping: float) -> Floats | None:
    """``left (c_xx + r I)^-1`` for every group; None if a matrix is not positive definite to working precision."""
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    solved = np.empty_like(left)
    size = c_xx.shape[1]
    if size <= SMALL_FEATURES:
        mean = np.trace(c_xx, axis1=1, axis2=2)[:, None, None] / size
        damped = c_xx + (damping * mean + np.finfo(np.float64).tiny) * np.eye(size)
        try:
            return np.asarray(np.linalg.solve(damped, left.transpose(0, 2, 1)).transpose(0, 2, 1))
        except np.linalg.LinAlgError:
            return None
    for group, gram in enumerate(c_xx):
        level = float(np.trace(gram)) / size
        if level <= 0:
            solved[group] = 0
            continue
        damped = gram.copy()
        damped.flat[:: size + 1] += damping * level
        try:
            factor = cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            return None
        solved[group] = cho_solve(factor, left[group].T, check_finite=False).T
    return solved
