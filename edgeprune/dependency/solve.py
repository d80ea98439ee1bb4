"""The analysis of a graph: apply the rules, close the relations, build the groups that can be removed.

relations (bind) -> classes (closure) -> atoms (atoms) <-> zeroing -> groups
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.atoms import Atoms, AtomSolver
from edgeprune.dependency.closure import Classes, close
from edgeprune.dependency.contraction import Contractions
from edgeprune.dependency.freeze_chain import explain
from edgeprune.dependency.grouping import build_groups
from edgeprune.dependency.groups import Cut, Freeze, Group, Role
from edgeprune.dependency.normalized_reads import settle_normalized_reads
from edgeprune.dependency.relate import relate
from edgeprune.dependency.relations import Relations
from edgeprune.dependency.zeroing import Place
from edgeprune.errors import ModelError
from edgeprune.support import or_nearest

Ints = NDArray[np.int64]


class FrozenAxes(Mapping[tuple[str, int], Freeze]):
    """(value, axis) -> why it is frozen, for axes without a removable position. Reasons are found on access."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        self._places = {
            (name, k): f
            for name, axes in analysis.relations.axes.items()
            for k, f in enumerate(axes)
            if analysis.is_frozen(f)
        }

    def __getitem__(self, place: tuple[str, int]) -> Freeze:
        return explain(self._analysis.relations, self._analysis.is_frozen, self._places[place])[-1]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What can be removed from a model, what cannot, and why.

    Attributes:
        groups: the groups in graph order.
        roles: (initializer, axis) -> the role of the axis for the nodes that read it.
        relations: the relations from the rules.
        classes: axes that are equal.
        atoms: the units with which each position of an axis is removed.
    """

    groups: tuple[Group, ...]
    roles: Mapping[tuple[str, int], Role]
    relations: Relations = field(repr=False)
    classes: Classes = field(repr=False)
    atoms: Atoms = field(repr=False)

    @cached_property
    def _by_id(self) -> dict[str, Group]:
        return {g.id: g for g in self.groups}

    @cached_property
    def _slot(self) -> dict[int, int]:
        return {c: k for k, c in enumerate(self.atoms.live)}

    @cached_property
    def frozen(self) -> Mapping[tuple[str, int], Freeze]:
        """(value, axis) -> why no position of it can be removed."""
        return FrozenAxes(self)

    def group(self, group_id: str) -> Group:
        """A group by its id. Raises ModelError if there is none."""
        if group_id not in self._by_id:
            raise ModelError(f"there is no group {group_id!r}{or_nearest(group_id, self._by_id)}")
        return self._by_id[group_id]

    def is_frozen(self, factor: int) -> bool:
        """Whether no position of a factor can be removed."""
        slot = self._slot.get(self.classes.of(factor))
        if slot is None:
            return True
        return bool((self.atoms.leaves[self.atoms.start[slot] : self.atoms.start[slot + 1]] < 0).all())

    def why(self, value: str, axis: int | None = None) -> list[Freeze]:
        """The chain from an axis (or the first frozen one) back to what froze it; empty if it can be cut.

        Raises:
            ModelError: if the graph has no such value or axis.
        """
        axes = self.relations.axes.get(value)
        if axes is None:
            near = or_nearest(value, self.relations.axes)
            raise ModelError(f"the model has no tensor {value!r} of known shape{near}")
        if axis is not None and not -len(axes) <= axis < len(axes):
            raise ModelError(f"{value!r} has {len(axes)} axes, not one numbered {axis}")
        for f in [axes[axis]] if axis is not None else axes:
            if self.is_frozen(f):
                return explain(self.relations, self.is_frozen, f)
        return []

    def kept(self, cut: Cut) -> dict[tuple[str, int], Ints]:
        """(value, axis) -> positions that are kept, for every initializer and activation axis that loses positions.

        Of an axis of open length they are positions of its stand-in; only their share means something.

        An empty array removes all units of a group. Its axes become empty: those of the branch that is removed with it.

        Raises:
            ModelError: if a group is unknown, its kept units are not sorted, unique and in range, or an axis would
                become empty although its groups keep units.
        """
        removed: dict[tuple[str, int], NDArray[np.bool_]] = {}
        shared: dict[tuple[str, int], NDArray[np.bool_]] = {}
        emptied: set[tuple[str, int]] = set()
        for group_id, units in cut.items():
            group, stay = self.group(group_id), np.asarray(units, dtype=np.int64)
            if len(stay) and (stay[0] < 0 or stay[-1] >= group.size or (np.diff(stay) <= 0).any()):
                raise ModelError(f"the units kept of {group_id!r} are not sorted, unique and below {group.size}")
            if len(stay) == group.size:
                continue
            gone = np.ones(group.size + 1, dtype=np.bool_)
            gone[stay] = False
            gone[-1] = False  # positions of other groups, unit -1
            for m in (*group.members, *group.open_members):
                key = (group_id, id(m.unit))
                if key not in shared:
                    shared[key] = gone[m.unit]
                place = (m.value, m.axis)
                if not len(stay):
                    emptied.add(place)
                removed[place] = removed[place] | shared[key] if place in removed else shared[key]
        kept: dict[tuple[str, int], Ints] = {}
        memo: dict[int, Ints] = {}
        for place, mask in removed.items():
            if id(mask) not in memo:
                memo[id(mask)] = np.flatnonzero(~mask)
            kept[place] = memo[id(mask)]
            if not len(kept[place]) and place not in emptied:
                raise ModelError(f"nothing would be left of axis {place[1]} of {place[0]!r}")
        return kept

    def wholes(self) -> dict[tuple[str, int], int]:
        """(value, axis) -> number of positions, of a stand-in where the length is open, for axes that groups touch."""
        return {(m.value, m.axis): len(m.unit) for g in self.groups for m in (*g.members, *g.open_members)}


def analyse(model: ir.Model, *, allow_statistic: bool = False) -> Analysis:
    """Find what can be removed from a canonical model.

    Args:
        model: shapes inferred, values and nodes named uniquely; it is not changed.
        allow_statistic: also cut axes over which a normalization computes its statistics.
    """
    rels = relate(model)
    settle_normalized_reads(rels, together=allow_statistic)
    classes = close(rels, allow_statistic=allow_statistic)
    solver = AtomSolver(classes)
    consumers = None
    while consumers is None:
        atoms = solver.solve()
        consumers = Contractions(rels, classes, atoms).zeroed(solver)
    roles = _roles(rels, model, consumers)
    return Analysis(build_groups(rels, classes, atoms, roles, model), roles, rels, classes, atoms)


def _roles(rels: Relations, model: ir.Model, consumers: set[Place]) -> dict[tuple[str, int], Role]:
    """The role of each initializer axis for the nodes that read it; consumer takes precedence over producer."""
    roles: dict[tuple[str, int], Role] = {}
    rank = {"consumer": 3, "statistic": 2, "producer": 1, "pointwise": 0}
    contracting = {c.node for c in rels.contractions}
    index = {id(n): k for k, n in enumerate(rels.nodes)}
    for name, value in model.graph.initializers.items():
        for axis in range(len(value.shape) if value.shape is not None else 0):
            best: Role = "pointwise"
            for use in value.uses():
                k = index.get(id(use.node), -1)
                rel = rels.rels.get(k)
                role: Role = "pointwise"
                if rel is not None and k in contracting:
                    role = "producer"
                elif rel is not None and rel.grammar.statistic:
                    role = "statistic"
                if rank[role] > rank[best]:
                    best = role
            roles[name, axis] = "consumer" if (name, axis) in consumers else best
    return roles
