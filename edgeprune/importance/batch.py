"""Which few of some near units go together: greedily, then with exchanges, all layers at once.

The units near the cut are few, so a layer is no more here than the inverse covariance M of their features and the
energy ``E = W'W`` of its weights. A layer that has fewer features of a unit than another gets features that cost
nothing and tell nothing, so that all units are alike and the layers' matrices lie in one array. With S the block of M
of the unit that goes, removing it costs ``tr(S^-1 E_uu)`` and leaves

    M - M_:u S^-1 M_u:        E - E_:u T - T' E_u: + T' E_uu T,   T = S^-1 M_u:

(`edgeprune.importance.obs`, in the terms of E). All exchanges of one unit of a set C for another are priced by one
inverse G of M_CC, since leaving p out of it takes no more than its own block: ``G - G_:p G_pp^-1 G_p:``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.importance.context import Floats

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Near:
    """Some units as all layers see them.

    Attributes:
        inverse, energy: M and E, shapes (layers, units, features each, units, features each).
    """

    inverse: Floats
    energy: Floats

    @property
    def units(self) -> int:
        """How many units there are."""
        return int(self.inverse.shape[1])

    @classmethod
    def of(cls, layers: Sequence[tuple[Floats, Floats, Ints]], units: int) -> Near:
        """Layers as (M, E, the unit of each feature, counted from 0 to ``units``)."""
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


def choose(near: Near, count: int) -> tuple[Ints, list[float]]:
    """Which ``count`` units to remove, in order, and the loss that each adds."""
    chosen, costs = _greedy(near, np.arange(near.units), count)
    if 1 < count < near.units:
        swapped = _swapped(near, chosen)
        if set(swapped) != set(chosen):
            return _greedy(near, swapped, count)
    return chosen, costs


def _greedy(near: Near, among: Ints, count: int) -> tuple[Ints, list[float]]:
    """Remove the cheapest of the units, ``count`` times."""
    inverse, energy = (np.ascontiguousarray(x[:, among][:, :, :, among]) for x in (near.inverse, near.energy))
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
        # With half of T' E_uu T taken from each side both mixed terms become one product and its transpose.
        mixed = mixed - 0.5 * (energy[:, best, :, best] @ step)
        change = step.transpose(0, 2, 1) @ mixed
        e -= change
        e -= change.transpose(0, 2, 1)
        m -= rows.transpose(0, 2, 1) @ step
        inverse[:, best, :, best] = np.eye(each)
    return np.array(chosen, np.int64), costs


def _swapped(near: Near, chosen: Ints) -> Ints:
    """Exchange each of the chosen for the unit that makes the set cheapest; the last is the best already."""
    chosen = chosen.copy()
    losses = None
    for position in range(len(chosen) - 1):
        if losses is None:
            rest = np.setdiff1d(np.arange(near.units), chosen)
            losses = _exchanges(near, chosen, rest)
        best = int(losses[position, 1:].argmin())
        if losses[position, 1 + best] < losses[position, 0]:
            chosen[position] = rest[best]
            losses = None
    return chosen


def _exchanges(near: Near, chosen: Ints, rest: Ints) -> Floats:
    """What the last unit adds where each of the chosen is kept (column 0) or one of the rest takes its place.

    Returns:
        shape (chosen, 1 + rest).
    """
    layers, _, each = near.inverse.shape[:3]
    c, r = len(chosen), len(rest)
    own = np.arange(c)

    def part(of: Floats, rows: Ints, columns: Ints) -> Floats:
        found = of[:, rows][:, :, :, columns]
        return found.reshape(layers, len(rows) * each, len(columns) * each)

    g = np.linalg.inv(part(near.inverse, chosen, chosen))
    m_cr = part(near.inverse, chosen, rest)
    e_cc, e_cr = part(near.energy, chosen, chosen), part(near.energy, chosen, rest)
    a = g @ m_cr
    e_a = e_cc @ a
    blocks = (layers, c, each, c, each)
    g_pp = g.reshape(blocks)[:, own, :, own].swapaxes(0, 1)
    q_pp = (g @ e_cc @ g).reshape(blocks)[:, own, :, own].swapaxes(0, 1)
    kept = traces(g_pp, q_pp).sum(axis=0)
    # x = G_pp^-1 a_pr, shape (layers, c, r, each, each)
    a_pr = a.reshape(layers, c, each, r, each).transpose(0, 1, 3, 2, 4)
    x = _solved(g_pp[:, :, None], a_pr)
    x_t = x.swapaxes(-1, -2)
    split = (layers, c * each, r, each)
    within = near.inverse[:, rest, :, rest].swapaxes(0, 1) - np.einsum(
        "lnrk,lnrj->lrkj", m_cr.reshape(split), a.reshape(split)
    )
    s = within[:, None] + a_pr.swapaxes(-1, -2) @ x
    outside = np.einsum("lnrk,lnrj->lrkj", e_cr.reshape(split), a.reshape(split))
    energy = (
        near.energy[:, rest, :, rest].swapaxes(0, 1)
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
