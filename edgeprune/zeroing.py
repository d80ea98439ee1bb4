"""Which weights, zeroed, make the dense model equal to the pruned one.

Where a node sums over a removed position, one of its operands must be zero there. Often that operand is a weight. Where it is
computed (the query in a product of query and key) the zero must come from further up, and every node on the way must keep it:
``q = (x W) · scale`` is zero where a column of W is. Where no weight can bring it about, the axis must not be cut.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.bind import Relations
from edgeprune.dims import Term

Place = tuple[str, int]
"""A value's name and an axis."""

_DEPTH = 300
"""Longer ways from a weight are not looked for."""


def term_names(term: Term, rank: int) -> list[frozenset[str]]:
    """The factors of each axis of a term; broadcast axes are named by their distance from the end of ``...``."""
    spread = rank - sum(a.kind not in ("rest", "broadcast") for a in term)
    out: list[frozenset[str]] = []
    for axis in term:
        if axis.kind == "rest":
            out += [frozenset()] * spread
        elif axis.kind == "broadcast":
            out += [frozenset((f"...{spread - k}",)) for k in range(spread)]
        else:
            out.append(frozenset(axis.factors))
    return out


class Zeroing:
    """Looks for weights to zero. ``touches`` tells whether a place holds any of the positions in question."""

    def __init__(self, rels: Relations, touches: Callable[[str, int], bool]) -> None:
        self.rels = rels
        self.touches = touches
        self.index = {id(n): k for k, n in enumerate(rels.nodes)}
        self.memo: dict[Place, frozenset[Place] | None] = {}

    def plan(self, value: ir.Value, axis: int, depth: int = 0) -> frozenset[Place] | None:
        """Weights and axes which, zeroed at the positions in question, make a value zero there; None if there are none."""
        place = (value.name or "", axis)
        if place not in self.memo:
            self.memo[place] = None  # on the way: a value is not zero because of itself
            self.memo[place] = self._plan(value, axis, depth)
        return self.memo[place]

    def _plan(self, value: ir.Value, axis: int, depth: int) -> frozenset[Place] | None:
        if value.is_graph_input() or depth > _DEPTH:
            return None
        if value.is_initializer():
            return frozenset(((value.name or "", axis),))
        node = value.producer()
        rel = self.rels.rels.get(self.index.get(id(node), -1))
        if node is None or rel is None or rel.zeros is None or value.shape is None:
            return None
        result = node.outputs.index(value)
        wanted = term_names(rel.grammar.outputs[result], len(value.shape))[axis]
        found: set[Place] = set()
        for either in rel.zeros:
            given = [k for k in either if k < len(node.inputs) and node.inputs[k] is not None]
            if not given:
                continue  # an operand that is left out adds nothing
            given.sort(key=lambda k: not node.inputs[k].is_initializer())  # type: ignore[union-attr]
            plans = (self._operand(node, k, rel.grammar.inputs[k], wanted, depth) for k in given)
            plan = next((p for p in plans if p is not None), None)
            if plan is None:
                return None
            found |= plan
        return frozenset(found)

    def _operand(
        self, node: ir.Node, k: int, term: Term, wanted: frozenset[str], depth: int
    ) -> frozenset[Place] | None:
        value = node.inputs[k]
        if value is None or value.shape is None:
            return None
        names = term_names(term, len(value.shape))
        carrying = [a for a, held in enumerate(names) if held & wanted and value.shape[a] != 1]
        if not carrying:
            constant = value.const_value
            return frozenset() if constant is not None and constant.size <= 1 and not np.any(constant.numpy()) else None
        found: set[Place] = set()
        for axis in carrying:
            if not self.touches(value.name or "", axis):
                continue  # another part of a concatenation: nothing is removed here
            plan = self.plan(value, axis, depth + 1)
            if plan is None:
                return None
            found |= plan
        return frozenset(found)
