"""Weights that make removed positions zero for every node that sums over them; without such weights, freeze them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency.atoms import Atoms, AtomSolver
from edgeprune.dependency.closure import Classes
from edgeprune.dependency.grouping import unit_classes
from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import Contraction, Relations
from edgeprune.dependency.zeroing import Place, Zeroing

Ints = NDArray[np.int64]


class Contractions:
    """The zeros that one solution needs."""

    def __init__(self, rels: Relations, classes: Classes, atoms: Atoms) -> None:
        self.rels, self.classes, self.atoms = rels, classes, atoms
        self.slots = {c: k for k, c in enumerate(atoms.live)}
        self.planners: dict[int, Zeroing] = {}
        self._units: tuple[Ints, Ints] | None = None
        self._held: dict[int, frozenset[int]] = {}

    def zeroed(self, solver: AtomSolver) -> set[Place] | None:
        """The initializer axes whose zeros represent removal; None if something was frozen because it had none."""
        consumers: set[Place] = set()
        failed = False
        for contraction in self.rels.contractions:
            c = self.classes.of(contraction.factor)
            if c not in self.slots:
                continue
            found = self._direct(contraction)
            if found is None:
                found = self._planned(contraction, c)
            if found is not None:
                consumers |= found
                continue
            node = self.rels.nodes[contraction.node]
            self.rels.freeze(contraction.factor, Freeze(f"no weight can zero what {node.op_type} sums over", node.name))
            solver.freeze_class(c)
            failed = True
        return None if failed else consumers

    def _direct(self, contraction: Contraction) -> frozenset[Place] | None:
        """The factor's axis in a weight that the node itself reads; None if there is none."""
        node = self.rels.nodes[contraction.node]
        for operand, axis in contraction.places:
            value = node.inputs[operand]
            if value is not None and value.is_initializer() and not value.is_graph_input():
                return frozenset(((value.name or "", axis),))
        return None

    def _planned(self, contraction: Contraction, c: int) -> frozenset[Place] | None:
        """Weights further up the graph, searched for each set of units separately; None if one set has none."""
        node = self.rels.nodes[contraction.node]
        found: set[Place] = set()
        for units in self._units_of(c):
            planner = self._planner(units)
            for operand in sorted({k for k, _ in contraction.places}, reverse=True):  # weights come second
                value = node.inputs[operand]
                if value is None:
                    continue
                axes = [a for k, a in contraction.places if k == operand and planner.touches(value.name or "", a)]
                plans = [planner.plan(value, a) for a in axes]
                if plans and all(p is not None for p in plans) and planner.safe():
                    found |= frozenset().union(*(p for p in plans if p is not None))
                    break
            else:
                return None
        return frozenset(found)

    def _planner(self, units: int) -> Zeroing:
        if units not in self.planners:

            def touches(value: str, axis: int) -> bool:
                return units in self._units_of(self.classes.of(self.rels.axes[value][axis]))

            self.planners[units] = Zeroing(self.rels, touches)
        return self.planners[units]

    def _units_of(self, c: int) -> frozenset[int]:
        """The numbers of the groups that have units in a class."""
        if c not in self._held:
            if self._units is None:
                self._units = unit_classes(self.classes, self.atoms)
            leaves, group_of = self._units
            k = self.slots.get(c)
            start = self.atoms.start
            rows = leaves[:0] if k is None else self.atoms.leaves[start[k] : start[k + 1]].reshape(-1)
            self._held[c] = frozenset(group_of[np.searchsorted(leaves, rows[rows >= 0])].tolist())
        return self._held[c]
