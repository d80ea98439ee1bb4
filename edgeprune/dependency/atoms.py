"""Closure position by position: every position of every live axis becomes an atom, and array operations tie atoms.

Atom 0 represents everything frozen; to freeze an atom is to tie it to 0. An atom is *compound* if it is a position of a
product: it is removed when any of its leaves is removed. If two products give different leaves for one position, the
leaves are tied until they agree, or frozen, so the result is consistent for any relations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.closure import Classes, components

Ints = NDArray[np.int64]

_MAX_LEAVES = 12
"""A position with more leaves than this is frozen: no real graph has one, and it bounds the work."""


@dataclass
class Atoms:
    """The solution: the leaves with which each position of each live class is removed.

    Attributes:
        live: representative classes with one atom for each position, in order.
        start: first atom of each live class, shape (len(live) + 1,).
        leaves: the leaves of each atom, shape (atoms, width), padded with -1; an empty row is a frozen position.
    """

    live: list[int]
    start: Ints
    leaves: Ints


class AtomSolver:
    """Ties atoms until every position has one consistent set of leaves."""

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        find = classes.find
        roots = sorted({find(c) for c in range(len(classes.parent))})
        self.live = [c for c in roots if not classes.frozen[c]]
        lengths = np.array([classes.sizes[c] for c in self.live], dtype=np.int64)
        self.start = np.concatenate([[1], 1 + np.cumsum(lengths)]).astype(np.int64)
        self.first = {c: int(s) for c, s in zip(self.live, self.start, strict=False)}
        self.count = int(self.start[-1])
        self.edges: list[tuple[Ints, Ints]] = []
        self._tie_parts()
        self._lay_out_products()

    def atoms(self, c: int) -> Ints:
        """The atoms of a class; zeros if it is frozen."""
        c = self.classes.find(c)
        size = self.classes.sizes[c]
        return np.arange(self.first[c], self.first[c] + size) if c in self.first else np.zeros(size, dtype=np.int64)

    def tie(self, a: Ints, b: Ints | int) -> None:
        """Tie atoms; with 0, freeze them."""
        self.edges.append((a, np.broadcast_to(np.asarray(b, dtype=np.int64), a.shape)))

    def freeze_class(self, c: int) -> None:
        """Freeze every position of a class."""
        self.tie(self.atoms(c), 0)

    def _tie_parts(self) -> None:
        for whole, parts in self.classes.concats:
            known = [c for c in (whole, *parts) if self.classes.sizes[self.classes.find(c)] >= 0]
            if len(known) <= len(parts):  # a dynamic length is frozen, and so are its parts and its whole
                for c in known:
                    self.freeze_class(c)
                continue
            self.tie(self.atoms(whole), np.concatenate([self.atoms(p) for p in parts]))
        for whole, index, part in self.classes.takes:
            self.tie(self.atoms(whole)[index], self.atoms(part))

    def _lay_out_products(self) -> None:
        # A frozen product has only frozen factors, so there is nothing to solve; it may have a million positions.
        products = [(w, f) for w, f in self.classes.products if not self.classes.frozen[self.classes.find(w)]]
        width = max((len(f) for _, f in products), default=1)
        wholes, rows = [np.zeros(0, dtype=np.int64)], [np.zeros((0, width), dtype=np.int64)]
        for whole, factors in products:
            grid = np.zeros((self.classes.sizes[self.classes.find(whole)], width), dtype=np.int64)
            shape = [self.classes.sizes[self.classes.find(f)] for f in factors]
            for k, (f, at) in enumerate(zip(factors, np.unravel_index(np.arange(len(grid)), shape), strict=False)):
                grid[:, k] = self.atoms(f)[at]
            wholes.append(self.atoms(whole))
            rows.append(grid)
        self.whole, self.rows = np.concatenate(wholes), np.concatenate(rows)

    def label(self) -> Ints:
        """The component of every atom; that of atom 0, the frozen one, is 0."""
        a, b = (
            (np.concatenate(x) for x in zip(*self.edges, strict=False))
            if self.edges
            else (np.zeros(0, dtype=np.int64),) * 2
        )
        label = components(a, b, self.count)
        self.edges = [(a, b)]
        return label

    def solve(self) -> Atoms:
        """Tie and freeze until nothing changes, then return the leaves."""
        while True:
            label = self.label()
            table = self._settle(label)
            if table is None:
                continue
            leaves = table[label]
            if not self._covering(leaves):
                return Atoms(self.live, self.start, leaves)

    def _settle(self, label: Ints) -> Ints | None:
        """One round: the leaves of every component, shape (components, width), or None if something was tied."""
        known = len(self.edges)
        whole, rows = label[self.whole], label[self.rows]
        frozen = whole == 0
        loose = frozen[:, None] & (rows != 0)
        if loose.any():
            self.tie(self.rows[loose], 0)
        top = rows.max(axis=1, initial=0)
        single = ~frozen & ((rows == 0) | (rows == top[:, None])).all(axis=1) & (whole != top)
        if single.any():  # all other factors are frozen: the position is its one free leaf, or frozen without one
            at = rows[single].argmax(axis=1)
            leaf = np.where(top[single] > 0, self.rows[single][np.arange(len(at)), at], 0)
            self.tie(self.whole[single], leaf)
        if len(self.edges) > known:
            return None
        alone = ((rows == 0) | (rows == top[:, None])).all(axis=1)
        compound = ~frozen & ~alone
        return self._expand(whole[compound], rows[compound], label)

    def _expand(self, whole: Ints, rows: Ints, label: Ints) -> Ints | None:
        """Replace compound leaves by their own leaves, and compare all rows of one position."""
        count = int(label.max()) + 1
        order = np.argsort(whole, kind="stable")
        whole, rows = whole[order], rows[order]
        account = np.full(count, -1, dtype=np.int64)
        account[whole[::-1]] = np.arange(len(whole))[::-1]  # the first row of each component
        stuck = np.zeros(len(whole), dtype=np.bool_)
        for _ in range(_MAX_LEAVES):
            nested = (account[rows] >= 0) & (rows != 0)
            stuck = nested.any(axis=1)
            if not stuck.any():
                break
            inner = np.where(nested[:, :, None], rows_of(account, rows, nested), 0)
            flat = np.concatenate([np.where(nested, 0, rows), inner.reshape(len(rows), -1)], axis=1)
            rows = compress(flat)
            if rows.shape[1] > _MAX_LEAVES:
                break
        known = len(self.edges)
        witness = np.zeros(count, dtype=np.int64)
        witness[label[::-1]] = np.arange(self.count)[::-1]
        if stuck.any():  # a position that is a factor of itself
            self.tie(witness[whole[stuck]], 0)
            return None
        base = account[whole]
        ordered = np.sort(rows, axis=1)
        differs = (ordered != ordered[base]).any(axis=1)
        if differs.any():
            mine, other = rows[differs], rows[base[differs]]
            alike = (mine != 0).sum(axis=1) == (other != 0).sum(axis=1)
            self.tie(witness[mine[alike]].reshape(-1), witness[other[alike]].reshape(-1))
            odd = np.concatenate([mine[~alike], other[~alike]])
            self.tie(witness[odd].reshape(-1), 0)
        if len(self.edges) > known:
            return None
        table = np.full((count, max(rows.shape[1], 1)), -1, dtype=np.int64)
        table[1:, 0] = np.arange(1, count)
        table[whole] = np.where(rows == 0, -1, rows)
        return table

    def _covering(self, leaves: Ints) -> bool:
        """Freeze leaves that alone cover a whole axis, since an axis must not become empty; True if there were any."""
        owner = np.repeat(np.arange(len(self.live)), np.diff(self.start))
        rows = leaves[1:]
        real = np.array([self.classes.real[c] for c in self.live], dtype=np.bool_)
        at = (rows >= 0) & real[owner][:, None]
        pairs = np.stack([np.broadcast_to(owner[:, None], rows.shape)[at], rows[at]], axis=1)
        if not len(pairs):
            return False
        key = pairs[:, 0] * (int(leaves.max()) + 1) + pairs[:, 1]
        _, first, counts = np.unique(key, return_index=True, return_counts=True)
        whole = counts == np.diff(self.start)[pairs[first, 0]]
        if not whole.any():
            return False
        label = self.label()
        witness = np.zeros(int(label.max()) + 1, dtype=np.int64)
        witness[label[::-1]] = np.arange(self.count)[::-1]
        self.tie(witness[pairs[first[whole], 1]], 0)
        return True


def rows_of(account: Ints, rows: Ints, nested: NDArray[np.bool_]) -> Ints:
    """The rows of nested leaves, shape (rows, width, width); the other rows are arbitrary."""
    return rows[np.where(nested, account[rows], 0)]


def compress(rows: Ints) -> Ints:
    """Move each row's entries to the left in order, without zeros and repetitions, and cut off empty columns."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    repeat = np.zeros_like(ordered, dtype=np.bool_)
    repeat[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    drop = np.zeros_like(repeat)
    np.put_along_axis(drop, order, repeat, axis=1)
    rows = np.where(drop, 0, rows)
    left = np.argsort(rows == 0, axis=1, kind="stable")
    rows = np.take_along_axis(rows, left, axis=1)
    return rows[:, : int((rows != 0).sum(axis=1).max(initial=1))]
