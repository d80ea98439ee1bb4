"""The next units to remove together, chosen from the units of least loss: greedily, then with exchanges.

Only few units are compared, so a layer is represented by the inverse covariance M of their features and the energy
``E = W'W`` of its weights. If a layer has fewer features of a unit than another layer, it is padded with features that
cost nothing and are correlated with nothing. So all units have the same size, and all layers fit into one array. With S
the block of M of the removed unit u, removing u costs ``tr(S^-1 E_uu)`` and leaves

    M - M_:u S^-1 M_u:        E - E_:u T - T' E_u: + T' E_uu T,   T = S^-1 M_u:

(`edgeprune.importance.obs`, in terms of E). One inverse G of M_CC gives the loss of all exchanges of one unit p of a
set C for another unit, because leaving p out needs only p's own block: ``G - G_:p G_pp^-1 G_p:``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.graph import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class UnitBlocks:
    """Some units with their features in all layers.

    Attributes:
        inverse, energy: M and E, shape (layers, units, features of a unit, units, features of a unit).
    """

    inverse: Floats
    energy: Floats

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.inverse.shape[1])

    @classmethod
    def of(cls, layers: Sequence[tuple[Floats, Floats, Ints]], units: int) -> UnitBlocks:
        """From layers as (M, E, unit of each feature, from 0 to ``units`` - 1)."""
        each = max((int(np.bincount(unit, minlength=1).max()) for _, _, unit in layers), default=1)
        shape = (len(layers), units * each, units * each)
        inverse = np.zeros(shape)
        inverse[:] = np.eye(shape[1])
        energy = np.zeros(shape)
        for i, (m, e, unit) in enumerate(layers):
            order = np.argsort(unit, kind="stable")
            sorted_unit = unit[order]
            rank = np.arange(len(unit)) - np.searchsorted(sorted_unit, sorted_unit)
            at = sorted_unit * each + rank
            inverse[i][np.ix_(at, at)] = m[np.ix_(order, order)]
            energy[i][np.ix_(at, at)] = e[np.ix_(order, order)]
        blocks = (len(layers), units, each, units, each)
        return cls(inverse.reshape(blocks), energy.reshape(blocks))


def choose_batch(blocks: UnitBlocks, count: int) -> tuple[Ints, list[float]]:
    """The ``count`` units to remove, in order, and the loss that each adds."""
    chosen, costs = _greedy(blocks, np.arange(blocks.units), count)
    if 1 < count < blocks.units:
        swapped = _swapped(blocks, chosen)
        if set(swapped) != set(chosen):
            return _greedy(blocks, swapped, count)
    return chosen, costs


def _greedy(blocks: UnitBlocks, among: Ints, count: int) -> tuple[Ints, list[float]]:
    """Remove the unit of least loss, ``count`` times."""
    inverse, energy = (np.ascontiguousarray(x[:, among][:, :, :, among]) for x in (blocks.inverse, blocks.energy))
    layers, left, each = inverse.shape[:3]
    diagonal = np.arange(left)
    gone = np.zeros(left, np.bool_)
    chosen, costs = [], []
    for _ in range(count):
        losses = traces(inverse[:, diagonal, :, diagonal], energy[:, diagonal, :, diagonal]).sum(axis=1)
        losses[gone] = np.inf
        best = int(losses.argmin())
        gone[best] = True
        chosen.append(int(among[best]))
        costs.append(max(0.0, float(losses[best])))
        if len(chosen) == count:
            break
        flat = (layers, left * each, left * each)
        m, e = inverse.reshape(flat), energy.reshape(flat)
        rows = inverse[:, best].reshape(layers, each, -1)
        step = _solved(inverse[:, best, :, best], rows)
        mixed = energy[:, best].reshape(layers, each, -1)
        # With half of T' E_uu T taken from each side, both mixed terms are one matrix product and its transpose.
        mixed = mixed - 0.5 * (energy[:, best, :, best] @ step)
        change = step.transpose(0, 2, 1) @ mixed
        e -= change
        e -= change.transpose(0, 2, 1)
        m -= rows.transpose(0, 2, 1) @ step
        inverse[:, best, :, best] = np.eye(each)
    return np.array(chosen, np.int64), costs


def _swapped(blocks: UnitBlocks, chosen: Ints) -> Ints:
    """Exchange each chosen unit for the one that gives the set the least loss; the last is the best already."""
    chosen = chosen.copy()
    losses = None
    for position in range(len(chosen) - 1):
        if losses is None:
            rest = np.setdiff1d(np.arange(blocks.units), chosen)
            losses = _exchanges(blocks, chosen, rest)
        best = int(losses[position, 1:].argmin())
        if losses[position, 1 + best] < losses[position, 0]:
            chosen[position] = rest[best]
            losses = None
    return chosen


def _exchanges(blocks: UnitBlocks, chosen: Ints, rest: Ints) -> Floats:
    """Loss that a chosen unit adds to the others (column 0), and that each other unit would add in its place.

    Returns:
        shape (chosen, 1 + rest).
    """
    layers, _, each = blocks.inverse.shape[:3]
    c, r = len(chosen), len(rest)
    own = np.arange(c)

    def part(of: Floats, rows: Ints, columns: Ints) -> Floats:
        found = of[:, rows][:, :, :, columns]
        return found.reshape(layers, len(rows) * each, len(columns) * each)

    g = np.linalg.inv(part(blocks.inverse, chosen, chosen))
    m_cr = part(blocks.inverse, chosen, rest)
    e_cc, e_cr = part(blocks.energy, chosen, chosen), part(blocks.energy, chosen, rest)
    a = g @ m_cr
    e_a = e_cc @ a
    square = (layers, c, each, c, each)
    g_pp = g.reshape(square)[:, own, :, own].swapaxes(0, 1)
    q_pp = (g @ e_cc @ g).reshape(square)[:, own, :, own].swapaxes(0, 1)
    kept = traces(g_pp, q_pp).sum(axis=0)
    # x = G_pp^-1 a_pr, shape (layers, c, r, each, each)
    a_pr = a.reshape(layers, c, each, r, each).transpose(0, 1, 3, 2, 4)
    x = _solved(g_pp[:, :, None], a_pr)
    x_t = x.swapaxes(-1, -2)
    split = (layers, c * each, r, each)
    within = blocks.inverse[:, rest, :, rest].swapaxes(0, 1) - np.einsum(
        "lnrk,lnrj->lrkj", m_cr.reshape(split), a.reshape(split)
    )
    s = within[:, None] + a_pr.swapaxes(-1, -2) @ x
    outside = np.einsum("lnrk,lnrj->lrkj", e_cr.reshape(split), a.reshape(split))
    energy = (
        blocks.energy[:, rest, :, rest].swapaxes(0, 1)
        - outside
        - outside.swapaxes(-1, -2)
        + np.einsum("lnrk,lnrj->lrkj", a.reshape(split), e_a.reshape(split))
    )
    across = ((e_cr - e_a).swapaxes(-1, -2) @ g).reshape(layers, r, each, c, each).transpose(0, 3, 1, 2, 4) @ x
    e = energy[:, None] + across + across.swapaxes(-1, -2) + x_t @ q_pp[:, :, None] @ x
    swapped = traces(s, e).sum(axis=0)
    return np.concatenate([kept[:, None], swapped], axis=1)


def _solved(a: Floats, b: Floats) -> Floats:
    return np.asarray(b / a if a.shape[-1] == 1 else np.linalg.solve(a, b))


def traces(a: Floats, b: Floats) -> Floats:
    """``tr(a^-1 b)`` of many small matrices."""
    return np.asarray(np.trace(_solved(a, b), axis1=-2, axis2=-1))
