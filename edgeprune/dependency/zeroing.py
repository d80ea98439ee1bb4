"""The weights whose zeros make the dense model equal to the pruned one.

If a node sums over a removed position, one of its operands must be zero there. Often that operand is a weight. If it is
computed (the query in the MatMul of query and key), the zero must come from a weight further up, and every node between
must keep it: ``q = (x W) · scale`` is zero where a column of W is. If no weight can make it zero, the axis must not be
cut.

The search is separate for each set of units that touch the same axes, so an axis has either all of them or none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.dims import LINEAR, Rel, Term
from edgeprune.dependency.relations import Relations
from edgeprune.graph import input_at

Place = tuple[str, int]
"""A value's name and an axis."""

_DEPTH = 300
"""Longest path from a weight that is searched."""

AT_ZERO = {
    **{"Softplus": float(np.float32(np.log(2))), "Sigmoid": 0.5},
    **{"Exp": 1.0, "Cos": 1.0, "Cosh": 1.0},
}
"""Functions that map zero to another number, in float32."""


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
    """Searches weights to set to zero. ``touches`` says whether an axis has the units in question."""

    def __init__(self, rels: Relations, touches: Callable[[str, int], bool]) -> None:
        self.rels = rels
        self.touches = touches
        self.memo: dict[Place, frozenset[Place] | None] = {}

    def plan(self, value: ir.Value, axis: int, depth: int = 0) -> frozenset[Place] | None:
        """Weights and axes whose zeros at the units in question make a value zero there; None if there are none."""
        place = (value.name or "", axis)
        if place not in self.memo:
            self.memo[place] = None  # during the search: a value is not zero because of itself
            self.memo[place] = self._plan(value, axis, depth)
        return self.memo[place]

    def safe(self) -> bool:
        """Whether no node would divide by one of the zeros, or compute its logarithm."""
        for node, operand in self.rels.risky():
            value = node.inputs[operand]
            rank = 0 if value is None or value.shape is None else len(value.shape)
            axes = set(range(rank))
            if node.op_type == "LpNormalization":  # a vector may hold zeros, but must not be zero as a whole
                axes.discard(node.attributes.get_int("axis", -1) % max(1, rank))
            touched = value is not None and any(self.touches(value.name or "", axis) for axis in axes)
            if touched and not positive(value):
                return False
        return True

    def _plan(self, value: ir.Value, axis: int, depth: int) -> frozenset[Place] | None:
        if value.is_graph_input() or depth > _DEPTH:
            return None
        if value.is_initializer():
            return frozenset(((value.name or "", axis),))
        node = value.producer()
        rel = self.rels.relation_of(node) if node is not None else None
        if node is None or rel is None or value.shape is None:
            return None
        node, rel = self._without_offset(node, rel)
        term = rel.grammar.outputs[0 if len(node.outputs) == 1 else node.outputs.index(value)]
        wanted = term_names(term, len(value.shape))[axis]
        if node.op_type == "Softmax" and wanted and wanted <= rel.grammar.statistic:
            return frozenset()  # an expert that is not there has no probability
        if rel.zeros is None:
            return None
        wanted |= {a for a, b in rel.normalized_reads if b in wanted}
        joined = any(a.kind == "concat" and wanted & set(a.factors) for a in term)
        found: set[Place] = set()
        for either in rel.zeros:
            given = [k for k in either if k < len(node.inputs) and node.inputs[k] is not None]
            if not given:
                continue  # an absent operand adds nothing
            given.sort(key=lambda k: not node.inputs[k].is_initializer())  # type: ignore[union-attr]
            plans = (self._operand(node, k, rel.grammar.inputs[k], wanted, joined, depth) for k in given)
            plan = next((p for p in plans if p is not None), None)
            if plan is None:
                return None
            found |= plan
        return frozenset(found)

    def _without_offset(self, node: ir.Node, rel: Rel) -> tuple[ir.Node, Rel]:
        """For ``f(x) - f(0)``, such as Softplus(x) - log 2, the node of f as one that keeps zeros; else the node."""
        for k, value in enumerate(node.inputs if node.op_type in ("Add", "Sub") else ()):
            inner = value.producer() if value is not None and not (k and node.op_type == "Sub") else None
            other = node.inputs[1 - k]
            constant = None if other is None or other.is_graph_input() else other.const_value
            if inner is None or constant is None or constant.size != 1 or inner.op_type not in AT_ZERO:
                continue
            offset = float(constant.numpy().reshape(()))
            found = self.rels.relation_of(inner)
            if found is not None and AT_ZERO[inner.op_type] == (offset if node.op_type == "Sub" else -offset):
                return inner, replace(found, zeros=LINEAR)
        return node, rel

    def _operand(
        self, node: ir.Node, k: int, term: Term, wanted: frozenset[str], joined: bool, depth: int
    ) -> frozenset[Place] | None:
        """Weights that make an operand zero. One without the units is another part of a concatenation, or not zero."""
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
    {"Sqrt", "Expand", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Cast", "Identity", "Flatten", "Slice"}
    | {"Gather", "Tile", "ReduceMean", "ReduceMax", "ReduceMin"}
    | {"AveragePool", "GlobalAveragePool", "MaxPool", "GlobalMaxPool"}
)
_NOT_NEGATIVE = frozenset(["Relu", "Abs", "ReduceL1", "ReduceL2", "ReduceSumSquare", "Sqrt"])


def positive(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether a value is above zero for all inputs. False if that is not evident."""
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
        low = _constant(node, 1)
        return low is not None and bool(np.all(low > 0))
    if node.op_type in ("Max", "Mul", "Div", "Add"):
        signs = [positive(v, depth + 1) for v in node.inputs]
        if node.op_type == "Add":
            return any(signs) and all(s or not_negative(v, depth + 1) for s, v in zip(signs, node.inputs, strict=True))
        return any(signs) if node.op_type == "Max" else all(signs)
    return False


def not_negative(value: ir.Value | None, depth: int = 0) -> bool:
    """Whether a value is zero or above for all inputs. False if that is not evident."""
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
        low = _constant(node, 1)
        return low is not None and bool(np.all(low >= 0))
    exponent = _constant(node, 1) if node.op_type == "Pow" else None
    return exponent is not None and bool(np.all(exponent % 2 == 0))


def _constant(node: ir.Node, index: int) -> NDArray[Any] | None:
    value = input_at(node, index)
    return None if value is None or value.const_value is None else value.const_value.numpy()


_SIGN_DEPTH = 12
