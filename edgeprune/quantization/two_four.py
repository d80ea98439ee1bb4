"""2:4 sparsity of one layer: of every four consecutive columns of W two become zero, in each row for itself.

    magnitude   the two smallest |w|
    wanda       the two smallest |w| * ||x_j|| (Sun et al. 2023), the rest refitted
    sparsegpt   by the loss each costs, column by column, the rest taking up the error (Frantar & Alistarh 2023)
    awp         projected gradient descent on the layer's output error, from wanda's mask (Liu et al. 2025)

All but the first change the weights that stay, and none of them ends worse than wanda's refitted mask: whichever row
loses least is taken.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantization.column_updates import Grid, damped, descend, keep_two_of_four, row_losses, sweep

Floats = NDArray[Any]
Method: TypeAlias = Literal["magnitude", "wanda", "sparsegpt", "awp"]
METHODS: tuple[Method, ...] = ("magnitude", "wanda", "sparsegpt", "awp")

AWP_STEPS = 100


def is_two_of_four(matrix: Floats) -> bool:
    """Whether every four consecutive columns of every row hold at most two non-zeros; shape (outputs, features)."""
    if matrix.shape[-1] % 4:
        return False
    return bool(((matrix.reshape(-1, 4) != 0).sum(axis=1) <= 2).all())


def sparsify_matrix(matrix: Floats, gram: Floats | None, method: Method, grid: Grid | None = None) -> Floats:
    """W with 2:4 zeros.

    Args:
        matrix: W, shape (outputs, features), features a multiple of 4.
        gram: second moment of the features, shape (features, features); only ``magnitude`` does without.
        method: how the mask is found.
        grid: what the values that stay are rounded to, in the same pass.
    """
    matrix = matrix.astype(np.float64)
    if method == "magnitude" or gram is None:
        return _rounded(np.where(keep_two_of_four(np.abs(matrix)), matrix, 0.0), grid)
    h = damped(gram)
    mask = keep_two_of_four(matrix**2 * np.diag(gram))
    best = _refitted(np.where(mask, matrix, 0.0), matrix, h, mask, grid)
    if method == "wanda":
        return best
    found = sweep(matrix, h, sparse=True, grid=grid) if method == "sparsegpt" else _project(matrix, h, mask)
    mask = found != 0
    other = _refitted(found, matrix, h, mask, grid)
    better = row_losses(other - matrix, h) < row_losses(best - matrix, h)
    return np.where(better[:, None], other, best)


def _refitted(start: Floats, wanted: Floats, h: Floats, mask: NDArray[np.bool_], grid: Grid | None) -> Floats:
    """The values that stay, moved to where the loss is least; on the grid, if there is one."""
    free = descend(start, wanted, h, mask=mask)
    return free if grid is None else descend(grid.snap(free), wanted, h, mask=mask, grid=grid)


def _rounded(matrix: Floats, grid: Grid | None) -> Floats:
    return matrix if grid is None else grid.snap(matrix)


def _project(matrix: Floats, h: Floats, mask: NDArray[np.bool_]) -> Floats:
    """Projected gradient: a step down the loss, then the two largest of every four. The best point on the way."""
    rate = 1.0 / float(np.linalg.norm(h, 2))
    current = np.where(mask, matrix, 0.0)
    best, best_loss = current, row_losses(current - matrix, h)
    for _ in range(AWP_STEPS):
        current = current - rate * ((current - matrix) @ h)
        current = np.where(keep_two_of_four(np.abs(current)), current, 0.0)
        loss = row_losses(current - matrix, h)
        better = loss < best_loss
        best = np.where(better[:, None], current, best)
        best_loss = np.minimum(loss, best_loss)
    return best
