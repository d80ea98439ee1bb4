"""Closure of the relations for whole axes: which factors are equal, and which are frozen completely.

It works on factors, not on atoms, so it solves nearly everything with one union for each axis: equalities, products by
congruence (the same axis factored the same way has the same factors, and the reverse), refinement of factorisations
that nest, concatenations in the same way, and freezing. It leaves factors with only some tied or frozen positions to
:mod:`edgeprune.dependency.atoms`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import DYNAMIC, Relations

Ints = NDArray[np.int64]


def components(a: Ints, b: Ints, count: int) -> Ints:
    """Label of each of ``count`` items after tying ``a[k]`` with ``b[k]``: 0, 1, ... in order of first item.

    Every round hooks the larger root of an edge onto the smaller one and halves all paths. This takes a few rounds of
    array operations; the import of a graph library would take longer than the whole analysis of a small model.
    """
    parent = np.arange(count, dtype=np.int64)
    while len(a):
        pa, pb = parent[a], parent[b]
        open_edges = pa != pb
        if not open_edges.any():
            break
        a, b, pa, pb = a[open_edges], b[open_edges], pa[open_edges], pb[open_edges]
        np.minimum.at(parent, np.maximum(pa, pb), np.minimum(pa, pb))
        while (parent != (shorter := parent[parent])).any():
            parent = shorter
    root = parent == np.arange(count)
    return (np.cumsum(root) - 1)[parent]


def freeze_open(rels: Relations) -> None:
    """Freeze open lengths, except axes that are a product with a fixed factor, such as batch times heads."""
    if not rels.open:
        return
    pairs = np.array([(a, b) for a, b, _ in rels.equal], dtype=np.int64).reshape(-1, 2)
    label = components(pairs[:, 0], pairs[:, 1], len(rels.sizes))
    mixed = {
        int(label[whole])
        for whole, factors, _ in rels.products
        if any(f not in rels.open and rels.sizes[f] > 1 for f in factors)
    }
    names = {f: name for name, axes in rels.axes.items() for f in axes}
    for f in sorted(rels.open):
        if int(label[f]) not in mixed:
            rels.freeze(f, Freeze(DYNAMIC, names.get(f)))


@dataclass
class Classes:
    """Factors joined into classes.

    Attributes:
        label: factor -> class, before ``parent`` is followed; use :meth:`of`.
        sizes: length of each class.
        frozen: completely frozen classes (axes of length one and of dynamic length included).
        real: classes that are an axis of a value; the others are only factors of products or parts of concatenations.
        products: (class, factors) with at least two factors.
        concats: (class, parts).
        takes: (class, positions, class).
    """

    label: NDArray[np.int64]
    sizes: list[int]
    frozen: list[bool]
    real: list[bool]
    parent: list[int] = field(default_factory=list)
    products: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    concats: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    takes: list[tuple[int, NDArray[np.int64], int]] = field(default_factory=list)

    def find(self, c: int) -> int:
        """The representative of a class."""
        parent = self.parent
        while parent[c] != c:
            parent[c] = parent[parent[c]]
            c = parent[c]
        return c

    def of(self, factor: int) -> int:
        """The class of a factor."""
        return self.find(int(self.label[factor]))

    def union(self, a: int, b: int) -> bool:
        """Join two classes of equal length; True if they were different."""
        a, b = self.find(a), self.find(b)
        if a == b or self.sizes[a] != self.sizes[b]:
            return False
        low, high = min(a, b), max(a, b)
        self.parent[high] = low
        self.frozen[low] = self.frozen[low] or self.frozen[high]
        self.real[low] = self.real[low] or self.real[high]
        return True

    def freeze(self, c: int) -> bool:
        """Freeze a class; True if it was not frozen."""
        c = self.find(c)
        was, self.frozen[c] = self.frozen[c], True
        return not was

    def new(self, size: int) -> int:
        """A new class that is not an axis."""
        self.parent.append(len(self.parent))
        self.sizes.append(size)
        self.frozen.append(size == 1)
        self.real.append(False)
        return len(self.parent) - 1


def close(rels: Relations, *, allow_statistic: bool) -> Classes:
    """Join and freeze classes until nothing changes."""
    pairs = np.array([(a, b) for a, b, _ in rels.equal], dtype=np.int64).reshape(-1, 2)
    label = components(pairs[:, 0], pairs[:, 1], len(rels.sizes))
    count = int(label.max()) + 1 if len(label) else 0
    sizes = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(sizes, label, np.asarray(rels.sizes, dtype=np.int64))
    real = np.zeros(count, dtype=np.bool_)
    real[label[np.fromiter((f for axes in rels.axes.values() for f in axes), dtype=np.int64)]] = True
    frozen = (sizes < 1) | (real & (sizes == 1))
    seeds = list(rels.freezes) + ([] if allow_statistic else [f for f, _ in rels.statistics])
    frozen[label[np.asarray(seeds, dtype=np.int64)]] = True
    classes = Classes(label, sizes.tolist(), frozen.tolist(), real.tolist(), list(range(count)))
    classes.concats = [(int(label[a]), tuple(int(label[p]) for p in parts)) for a, parts, _ in rels.concats]
    classes.takes = [(int(label[a]), index, int(label[b])) for a, index, b, _ in rels.takes]
    for a, factors, _ in rels.products:
        _add_product(classes, int(label[a]), tuple(int(label[f]) for f in factors))
    while _round(classes):
        pass
    return classes


def _add_product(classes: Classes, whole: int, factors: tuple[int, ...]) -> bool:
    """Add a product; factors of length one are left out, and a single factor equals the axis."""
    long = tuple(f for f in factors if classes.sizes[f] != 1)
    if len(long) > 1:
        classes.products.append((whole, long))
        return False
    return bool(long) and classes.union(whole, long[0])


def _round(classes: Classes) -> bool:
    """One pass over products, concatenations and takes; True if anything changed."""
    return any([_products(classes), _concats(classes), _takes(classes)])


def _products(classes: Classes) -> bool:
    find, sizes = classes.find, classes.sizes
    changed = False
    by_axis: dict[int, dict[tuple[int, ...], tuple[int, ...]]] = {}
    by_factors: dict[tuple[int, ...], int] = {}
    for whole, given in classes.products:
        a, factors = find(whole), tuple(find(f) for f in given)
        if classes.frozen[a]:
            changed |= any(classes.freeze(f) for f in factors)
        elif all(classes.frozen[f] for f in factors):
            changed |= classes.freeze(a)
        other = by_factors.setdefault(factors, a)
        changed |= classes.union(other, a)
        same = by_axis.setdefault(a, {}).setdefault(tuple(sizes[f] for f in factors), factors)
        for f, g in zip(factors, same, strict=False):
            changed |= classes.union(f, g)
    kept: list[tuple[int, tuple[int, ...]]] = []
    for a, ways in by_axis.items():
        refined = None if len(ways) < 2 or classes.frozen[find(a)] else _refine(classes, a, list(ways.values()))
        if refined is None:
            kept += [(a, factors) for factors in ways.values()]
        else:
            kept += refined
            changed = True
    classes.products = kept
    return changed


def _refine(classes: Classes, axis: int, ways: list[tuple[int, ...]]) -> list[tuple[int, tuple[int, ...]]] | None:
    """The common refinement of an axis's factorisations; None if they do not nest.

    ``(32 4)`` and ``(8 16)`` become ``(8 4 4)``, with ``32 = (8 4)`` and ``16 = (4 4)``.
    """
    sizes = classes.sizes

    def cuts(factors: tuple[int, ...]) -> list[int]:
        return [math.prod(sizes[f] for f in factors[k:]) for k in range(len(factors) + 1)]

    ends = sorted({c for factors in ways for c in cuts(factors)})
    if any(high % low for low, high in itertools.pairwise(ends)):
        return None
    fine = {low: classes.new(high // low) for low, high in itertools.pairwise(ends)}
    products = [(axis, tuple(fine[low] for low in reversed(ends[:-1])))]
    for factors in ways:
        bounds = cuts(factors)
        for f, high, low in zip(factors, bounds, bounds[1:], strict=False):
            parts = tuple(fine[e] for e in reversed(ends) if low <= e < high)
            if len(parts) == 1:
                classes.union(f, parts[0])
            else:
                products.append((f, parts))
    return products


def _concats(classes: Classes) -> bool:
    find, sizes = classes.find, classes.sizes
    changed = False
    by_axis: dict[tuple[int, ...], tuple[int, ...]] = {}
    by_parts: dict[tuple[int, ...], int] = {}
    kept: dict[tuple[int, tuple[int, ...]], None] = {}
    for whole, given in classes.concats:
        a, parts = find(whole), tuple(find(p) for p in given)
        kept[a, parts] = None
        if classes.frozen[a]:
            changed |= any(classes.freeze(p) for p in parts)
        elif all(classes.frozen[p] for p in parts):
            changed |= classes.freeze(a)
        if 1 not in [sizes[p] for p in parts]:
            changed |= classes.union(by_parts.setdefault(parts, a), a)
        same = by_axis.setdefault((a, *(sizes[p] for p in parts)), parts)
        for p, q in zip(parts, same, strict=False):
            changed |= classes.union(p, q)
    classes.concats = list(kept)
    return changed


def _takes(classes: Classes) -> bool:
    find = classes.find
    changed = False
    seen: dict[tuple[int, bytes], int] = {}
    for whole, index, given in classes.takes:
        a, b = find(whole), find(given)
        if classes.frozen[a]:
            changed |= classes.freeze(b)
        changed |= classes.union(seen.setdefault((a, index.tobytes()), b), b)
    return changed
