"""Groups from atoms: leaves that touch the same axes the same number of times are interchangeable units."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.atoms import Atoms
from edgeprune.dependency.closure import Classes
from edgeprune.dependency.groups import Group, Member, Role
from edgeprune.dependency.relations import Relations

Ints = NDArray[np.int64]


def build_groups(
    rels: Relations, classes: Classes, atoms: Atoms, roles: dict[tuple[str, int], Role], model: ir.Model
) -> tuple[Group, ...]:
    """All groups, in the order of the first value of each."""
    owner, position, leaf = _incidence(atoms)
    if not len(leaf):
        return ()
    leaves, leaf, group_of, direct = _classify(classes, atoms, owner, leaf)
    kinds = _kinds(rels, classes, atoms)
    places = _places(rels, classes, atoms)
    order = np.argsort(group_of[leaf], kind="stable")
    bounds = np.searchsorted(group_of[leaf][order], np.arange(int(group_of.max()) + 2))
    drafts = []
    number = np.zeros(len(leaves), dtype=np.int32)
    for g in range(int(group_of.max()) + 1):
        rows = order[bounds[g] : bounds[g + 1]]
        runs = np.split(rows, np.flatnonzero(np.diff(owner[rows])) + 1)  # rows, and therefore owners, are in order
        touched = {int(owner[run[0]]): run for run in runs}
        members = sorted((at, c) for c in touched for at in places.get(c, ()))
        if not members:
            continue
        first = touched[members[0][1]]
        _, seen = np.unique(leaf[first], return_index=True)
        ordered = leaf[first][np.sort(seen)]
        number[ordered] = np.arange(len(ordered))  # units are numbered by their first position
        maps = {}
        for c, mine in touched.items():
            unit = np.full(atoms.start[c + 1] - atoms.start[c], -1, dtype=np.int32)
            unit[position[mine]] = number[leaf[mine]]
            maps[c] = unit
        # Beside the batch as a frozen factor, a head is first met as a position of their product.
        whole = {c for c in touched if atoms.start[c + 1] - atoms.start[c] == len(ordered)}
        own = int(direct[ordered[0]])
        kind = next((kinds[c] for c in (own, *sorted(whole)) if c in kinds), "channel")
        drafts.append((members, maps, kind, len(ordered)))
    computed = len(rels.axes) - sum(len(n.outputs) for n in rels.nodes)
    drafts.sort(key=lambda d: next((at for (at, _, _), _ in d[0] if at >= computed), d[0][0][0][0]))
    return _named(drafts, roles, model, rels)


def unit_classes(classes: Classes, atoms: Atoms) -> tuple[Ints, Ints]:
    """The leaves, and the number of each leaf's group: leaves of one group touch the same axes."""
    owner, _, leaf = _incidence(atoms)
    if not len(leaf):
        return leaf, leaf
    leaves, _, group_of, _ = _classify(classes, atoms, owner, leaf)
    return leaves, group_of


def _classify(classes: Classes, atoms: Atoms, owner: Ints, leaf: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """Distinct leaves, the index of each incidence's leaf among them, and each leaf's group and own class.

    Axes of values and factors of products count (without the factors, the two factors of an axis could touch the same
    axes). Parts that a Slice drops are not axes; parts dropped before and after are not distinguished.
    """
    leaves, leaf = np.unique(leaf, return_inverse=True)
    factors = {classes.find(f) for _, several in classes.products for f in several}
    counted = np.array([classes.real[c] or c in factors for c in atoms.live], dtype=np.bool_)
    key = _signatures(owner, leaf, len(leaves), counted)
    direct = _direct_class(atoms, leaves, counted)
    order = np.lexsort((direct, key))
    change = (np.diff(key[order]) != 0) | (np.diff(direct[order]) != 0)
    group_of = np.empty(len(leaves), dtype=np.int64)
    group_of[order] = np.concatenate([[0], np.cumsum(change)])
    return leaves, leaf, group_of, direct


def _incidence(atoms: Atoms) -> tuple[Ints, Ints, Ints]:
    """For every leaf of every position: index of the live class, position in it, leaf."""
    lengths = np.diff(atoms.start)
    owner = np.repeat(np.arange(len(atoms.live)), lengths)
    position = np.arange(len(owner)) - np.repeat(atoms.start[:-1] - 1, lengths)
    rows, columns = np.nonzero(atoms.leaves[1:] >= 0)
    return owner[rows], position[rows], atoms.leaves[1:][rows, columns]


def _signatures(owner: Ints, leaf: Ints, leaves: int, counted: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A hash of the multiset of classes that each leaf touches: a sum of random words, so the order does not matter."""
    word = np.random.default_rng(0).integers(0, 2**64, len(counted), dtype=np.uint64) * counted
    out = np.zeros(leaves, dtype=np.uint64)
    np.add.at(out, leaf, word[owner])
    return out


def _direct_class(atoms: Atoms, leaves: Ints, counted: NDArray[np.bool_]) -> Ints:
    """The first counted class in which each leaf is a position itself, not a factor of one."""
    owner = np.repeat(np.arange(len(atoms.live)), np.diff(atoms.start))
    rows = atoms.leaves[1:]
    alone = ((rows >= 0).sum(axis=1) == 1) & counted[owner]
    out = np.full(int(leaves.max()) + 1, len(atoms.live), dtype=np.int64)
    values = rows[alone].max(axis=1, initial=-1)
    np.minimum.at(out, values, owner[alone])
    return out[leaves]


def _kinds(rels: Relations, classes: Classes, atoms: Atoms) -> dict[int, str]:
    """Live class -> the kind of its units, for factors of a product."""
    slots = {c: k for k, c in enumerate(atoms.live)}
    out: dict[int, str] = {}
    for _, factors, node in rels.products:
        grouped = rels.nodes[node].op_type in ("Conv", "ConvTranspose", "GroupNormalization")
        outer = "group" if grouped else "head"
        if sum(classes.of(f) in slots and rels.sizes[f] > 1 for f in factors) < 2:
            continue
        for k, f in enumerate(factors):
            slot = slots.get(classes.of(f))
            if slot is not None and classes.sizes[classes.of(f)] > 1:
                out.setdefault(slot, outer if k < len(factors) - 1 else "dim")
    return out


def _places(rels: Relations, classes: Classes, atoms: Atoms) -> dict[int, list[tuple[int, str, int]]]:
    """Live class -> its axes: (order in the graph, value, axis)."""
    slots = {c: k for k, c in enumerate(atoms.live)}
    out: dict[int, list[tuple[int, str, int]]] = {}
    for at, (name, axes) in enumerate(rels.axes.items()):
        for k, f in enumerate(axes):
            slot = slots.get(classes.of(f))
            if slot is not None:
                out.setdefault(slot, []).append((at, name, k))
    return out


def _named(
    drafts: list,  # type: ignore[type-arg]
    roles: dict[tuple[str, int], Role],
    model: ir.Model,
    rels: Relations,
) -> tuple[Group, ...]:
    """Groups, each named after the first weight that makes its units, else after its first value."""
    initializers = model.graph.initializers
    used: dict[str, int] = {}
    out = []
    for places, maps, kind, size in drafts:
        every = [
            Member(name, axis, roles[name, axis] if name in initializers else "activation", maps[c])
            for (_, name, axis), c in places
        ]
        members = tuple(m for m in every if rels.axes[m.value][m.axis] not in rels.open)
        if not members:
            continue
        beside = tuple(m for m in every if rels.axes[m.value][m.axis] in rels.open)
        head = next((m for m in members if m.role in ("producer", "consumer")), members[0])
        base = f"{head.value}:{head.axis}" + ("" if kind == "channel" else f"/{kind}")
        used[base] = used.get(base, 0) + 1
        out.append(Group(base if used[base] == 1 else f"{base}#{used[base]}", kind, size, members, beside))
    return tuple(out)
