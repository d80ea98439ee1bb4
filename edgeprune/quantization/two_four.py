"""2:4 sparsity of one layer: in each row, two of every four consecutive columns of W become zero.

    magnitude   removes the two smallest |w|
    wanda       removes the two smallest |w| * ||x_j|| (Sun et al. 2023), and refits the others
    sparsegpt   removes by loss, column by column; the others take up the error (Frantar & Alistarh 2023)
    awp         projected gradient descent on the layer's output error, from wanda's mask (Liu et al. 2025)

All but the first also change the weights that stay. No row ends worse than with wanda's refitted mask: the better of
the two is taken.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from edgeprune.quantization.column_updates import (
    Floats,
    Grid,
    Mask,
    damped,
    descend,
    keep_two_of_four,
    row_losses,
    sweep,
)

Method: TypeAlias = Literal["magnitude", "wanda", "sparsegpt", "awp"]
METHODS: tuple[Method, ...] = ("magnitude", "wanda", "sparsegpt", "awp")

AWP_STEPS = 100


def is_two_of_four(matrix: Floats) -> bool:
    """Whether every four consecutive columns of every row have at most two non-zeros; shape (outputs, features)."""
    if matrix.shape[-1] % 4:
        return False
    return bool(((matrix.reshape(-1, 4) != 0).sum(axis=1) <= 2).all())


def sparsify_matrix(
    matrix: Floats, gram: Floats | None, method: Method, grid: Grid | None = None, *, refined: bool = True
) -> Floats:
    """W with 2:4 zeros.

    Args:
        matrix: W, shape (outputs, features), features a multiple of 4.
        gram: second moment of the features, shape (features, features); only ``magnitude`` needs none.
        method: how the mask is found.
        grid: the grid to which the weights that stay are rounded in the same pass.
        refined: whether sparsegpt's result is refitted until it changes little, and compared with wanda's. Without
            it one refit is made: a third of the time, and about a tenth more loss in a wide layer.
    """
    matrix = matrix.astype(np.float64)
    if method == "magnitude" or gram is None:
        kept = np.where(keep_two_of_four(np.abs(matrix)), matrix, 0.0)
        return kept if grid is None else grid.snap(kept)
    h = damped(gram)
    if method == "sparsegpt" and not refined:
        found = sweep(matrix, h, sparse=True, grid=grid)
        return descend(found, matrix, h, mask=found != 0, grid=grid, sweeps=1)
    mask = keep_two_of_four(matrix**2 * np.diag(gram))
    best = _refitted(np.where(mask, matrix, 0.0), matrix, h, mask, grid)
    if method == "wanda":
        return best
    found = sweep(matrix, h, sparse=True, grid=grid) if method == "sparsegpt" else _project(matrix, h, mask)
    mask = found != 0
    other = _refitted(found, matrix, h, mask, grid)
    better = row_losses(other - matrix, h) < row_losses(best - matrix, h)
    return np.where(better[:, None], other, best)


def _refitted(start: Floats, wanted: Floats, h: Floats, mask: Mask, grid: Grid | None) -> Floats:
    """The weights that stay, refitted for least loss, and on the grid if there is one."""
    free = descend(start, wanted, h, mask=mask)
    return free if grid is None else descend(grid.snap(free), wanted, h, mask=mask, grid=grid)


def _project(matrix: Floats, h: Floats, mask: Mask) -> Floats:
    """Projected gradient descent: a step down the loss, then the two largest of every four. Returns the best step."""
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
