"""The axis relation of one node, spelled out: for every axis of every operand and result the factors that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from edgeprune.dependency import Axis, NodeView, Rel, rule_of
from edgeprune.errors import RuleError
from edgeprune.graph import Refused, dim_keys, has_subgraph

Kind = Literal["factor", "product", "part", "one", "frozen"]


@dataclass(frozen=True)
class Label:
    """What an axis relation says about one axis.

    Attributes:
        kind: ``factor``: the axis is one factor; ``product``: of several; ``part``: a concatenation, or positions taken
            from a factor; ``one``: of length one; ``frozen``: nothing is known.
        factors: their names.
    """

    kind: Kind
    factors: tuple[str, ...] = ()


Labels = Sequence[Label]


@dataclass(frozen=True)
class NodeAxes:
    """The axes of a node.

    Attributes:
        rel: the relation.
        inputs: labels of each operand's axes; None for an absent operand, and for one of unknown rank.
        outputs: the same for the results.
    """

    rel: Rel
    inputs: tuple[Labels | None, ...]
    outputs: tuple[Labels | None, ...]

    def is_bound(self, factor: str) -> bool:
        """Whether the operator does more along this factor than to treat its positions one by one."""
        return factor in self.rel.grammar.frozen or factor in self.rel.grammar.statistic

    def places(self, factor: str) -> list[tuple[int, int, Label]]:
        """(result, axis, label) of every axis of the results with this factor."""
        return [
            (k, axis, label)
            for k, labels in enumerate(self.outputs)
            for axis, label in enumerate(labels or ())
            if factor in label.factors
        ]

    def size(self, factor: str) -> int | str | None:
        """Its length, where the rule gives one."""
        return self.rel.sizes.get(factor)


def node_axes(node: ir.Node, opset: int) -> NodeAxes | Refused:
    """The labels of a node's axes by the rule of its operator, or why there are none."""
    function = rule_of(node.domain, node.op_type)
    if has_subgraph(node):
        return Refused("control flow")
    if function is None:
        return Refused(f"no rule for {node.op_type}")
    try:
        rel = function(NodeView(node, opset))
        grammar = rel.grammar
        inputs = [_labels(term, value) for term, value in zip(grammar.inputs, node.inputs, strict=False)]
        outputs = [_labels(term, value) for term, value in zip(grammar.outputs, node.outputs, strict=False)]
    except RuleError as error:
        return Refused(f"{node.op_type}: {error}")
    return NodeAxes(rel, tuple(inputs), tuple(outputs))


def _labels(term: Sequence[Axis], value: ir.Value | None) -> Labels | None:
    shape = dim_keys(value)
    if shape is None:
        return None
    spread = len(shape) - sum(axis.kind not in ("rest", "broadcast") for axis in term)
    if spread < 0:
        raise RuleError("the relation does not fit the shape")
    found: list[Label] = []
    for axis in term:
        if axis.kind == "rest":
            found += [Label("frozen")] * spread
        elif axis.kind == "broadcast":  # right-aligned, as in NumPy
            found += [Label("factor", (f"...{spread - k}",)) for k in range(spread)]
        else:
            found.append(Label(_KINDS[axis.kind], axis.factors))
    return found


_KINDS: Mapping[str, Kind] = {
    "factor": "factor",
    "product": "product",
    "concat": "part",
    "take": "part",
    "one": "one",
    "frozen": "frozen",
}
