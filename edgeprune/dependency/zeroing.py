"""Which weights, zeroed, make the dense model equal to the pruned one.

Where a node sums over a removed position, one of its operands must be zero there. Often that operand is a weight.
Where it is computed (the query in a product of query and key) the zero must come from further up, and every node on
the way must keep it: ``q = (x W) · scale`` is zero where a column of W is. Where no weight can bring it about, the
axis must not be cut.

The way is looked for separately for each set of units that touch the same axes, so that a place either holds all of
them or none.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.dims import Term
from edgeprune.dependency.relations import Relations

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
    """Looks for weights to zero. ``touches`` tells whether a place holds the units in question."""

    def __init__(self, rels: Relations, touches: Callable[[str, int], bool]) -> None:
        self.rels = rels
        self.touches = touches
        self.memo: dict[Place, frozenset[Place] | None] = {}

    def plan(self, value: ir.Value, axis: int, depth: int = 0) -> frozenset[Place] | None:
        """Weights and axes which, zeroed at the units in question, make a value zero there; None if there are none."""
        place = (value.name or "", axis)
        if place not in self.memo:
            self.memo[place] = None  # on the way: a value is not zero because of itself
            self.memo[place] = self._plan(value, axis, depth)
        return self.memo[place]

    def safe(self) -> bool:
        """Whether no node would divide by one of the zeros, or take its logarithm."""
        for node, operand in self.rels.risky():
            value = node.inputs[operand]
            if (
                value is None
                or value.shape is None
                or not any(self.touches(value.name or "", a) for a in range(len(value.shape)))
            ):
                continue
            if not positive(value):
                return False
        return True

    def _plan(self, value: ir.Value, axis: int, depth: int) -> frozenset[Place] | None:
        if value.is_graph_input() or depth > _DEPTH:
            return None
        if value.is_initializer():
            return frozenset(((value.name or "", axis),))
        node = value.producer()
        rel = self.rels.relation_of(node) if node is not None else None
        if node is None or rel is None or rel.zeros is None or value.shape is None:
            return None
        term = rel.grammar.outputs[node.outputs.index(value)]
        wanted = term_names(term, len(value.shape))[axis]
        wanted |= {a for a, b in rel.picks if b in wanted}
        joined = any(a.kind == "concat" and wanted & set(a.factors) for a in term)
        found: set[Place] = set()
        for either in rel.zeros:
            given = [k for k in either if k < len(node.inputs) and node.inputs[k] is not None]
            if not given:
                continue  # an operand that is left out adds nothing
            given.sort(key=lambda k: not node.inputs[k].is_initializer())  # type: ignore[union-attr]
            plans = (self._operand(node, k, rel.grammar.inputs[k], wanted, joined, depth) for k in given)
            plan = next((p for p in plans if p is not None), None)
            if plan is None:
                return None
            found |= plan
        return frozenset(found)

    def _operand(
        self, node: ir.Node, k: int, term: Term, wanted: frozenset[str], joined: bool, depth: int
    ) -> frozenset[Place] | None:
        """What makes an operand zero. One without the units is another part of what is joined, or not zero."""
        value = node.inputs[k]
        if value is None or value.shape is None:
            return None
        held = term_names(term, len(value.shape))
        carrying = [a for a, names in enumerate(held) if names & wanted and self.touches(value.name or "", a)]
        if not carrying:
            constant = value.const_value
            nothing = constant is not None and constant.size <= 1 and not np.any(constant.numpy())
            return frozenset() if joined or nothing else None
        found: set[Place] = set()
        for axis in carrying:
            plan = self.plan(value, axis, depth + 1)
            if plan is None:
                return None
            found |= plan
        return frozenset(found)


_POSITIVE = frozenset(["Exp", "Sigmoid", "Softplus", "Softmax", "Cosh"])
_SAME_SIGN = frozenset(
    [
        "Sqrt",
        "Expand",
        "Reshape",
        "Transpose",
        "Unsqueeze",
        "Squeeze",
        "Cast",
        "Identity",
        "Flatten",
        "Slice",
        "Gather",
        "Tile",
        "ReduceMean",
        "ReduceMax",
        "ReduceMin",
        "AveragePool",
        "GlobalAveragePool",
        "MaxPool",
        "GlobalMaxPool",
    ]
)
_NOT_NEGATIVE = frozenset(["Relu", "Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Sqrt"])


def positive(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether a value is above zero whatever the inputs are. False if that is not evident."""
    if value is None or depth > _SIGN_DEPTH:
        return False
    if value.const_value is not None:
        return not value.is_graph_input() and bool(np.all(value.const_value.numpy() > 0))
    node = value.producer()
    if node is None:
        return False
    if node.op_type in _POSITIVE:
        return True
    if node.op_type in _SAME_SIGN:
        return positive(node.inputs[0], depth + 1)
    if node.op_type == "Clip":
        low = node.inputs[1] if len(node.inputs) > 1 else None
        return low is not None and low.const_value is not None and bool(np.all(low.const_value.numpy() > 0))
    if node.op_type in ("Max", "Mul", "Div", "Add"):
        signs = [positive(v, depth + 1) for v in node.inputs]
        if node.op_type == "Add":
            return any(signs) and all(s or not_negative(v, depth + 1) for s, v in zip(signs, node.inputs, strict=True))
        return any(signs) if node.op_type == "Max" else all(signs)
    return False


def not_negative(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether a value is zero or above whatever the inputs are. False if that is not evident."""
    node = value.producer() if value is not None else None
    if node is None or depth > _SIGN_DEPTH:
        return positive(value, depth)
    if node.op_type in _NOT_NEGATIVE or positive(value, depth):
        return True
    if node.op_type in _SAME_SIGN or node.op_type == "ReduceSum":
        return not_negative(node.inputs[0], depth + 1)
    if node.op_type == "Mul" and node.inputs[0] is node.inputs[1]:
        return True
    if node.op_type in ("Add", "Concat", "Max", "Min", "Mul", "Sum"):
        signs = (not_negative(v, depth + 1) for v in node.inputs)
        return any(signs) if node.op_type == "Max" else all(signs)
    if node.op_type == "Clip":
        low = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
        return low is not None and bool(np.all(low.numpy() >= 0))
    exponent = node.inputs[1].const_value if node.op_type == "Pow" and node.inputs[1] is not None else None
    return exponent is not None and bool(np.all(exponent.numpy() % 2 == 0))


_SIGN_DEPTH = 12
