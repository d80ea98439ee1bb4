"""Routers of a mixture of experts: the Softmax over experts, the TopK that chooses some, and the mask of the chosen.

A router is a Linear and a Softmax over its outputs, one for each expert. Without an expert the others' probabilities
change, so the experts are a statistic axis. One that was removed counts as if its logit were minus infinity: its
probability is zero, and no TopK chooses it.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.dependency.dims import NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.errors import RuleError
from edgeprune.graph import is_op


def is_router(value: ir.Value | None, axis: int) -> bool:
    """Whether the last axis of a value is the outputs of a Linear, perhaps with a bias."""
    if value is None or value.shape is None or axis != len(value.shape) - 1:
        return False
    node = value.producer()
    if node is not None and is_op(node, "Add"):
        inner = [v for v in node.inputs if v is not None and v.const_value is None]
        node = inner[0].producer() if len(inner) == 1 else None
    return (
        node is not None
        and is_op(node, "MatMul", "Gemm")
        and node.inputs[1] is not None
        and node.inputs[1].is_initializer()
        and node.inputs[0] is not None
        and not node.inputs[0].is_initializer()
    )


@rule("TopK")
def top_k(n: NodeView) -> Rel:
    """Positions are sorted along one axis. Experts may go if nothing but the mask of the chosen numbers them."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", -1), rank)
    result = axes(rank, {k: "!s"} if k < rank else {})
    mark = "~r" if _chooses_experts(n.node, k) else "!r"
    return Rel(f"{axes(rank, {k: mark})}, . -> {result}, {result}", why="TopK sorts along this axis")


@repair("TopK")
def enough_are_left(fix: Repair) -> None:
    """Refuse to choose more experts than are left."""
    k = fix.view.axis(fix.view.attr("axis", -1), fix.view.rank(0))
    chosen = fix.view.ints(1)[0]
    if fix.length(0, k) < chosen:
        raise RuleError(f"TopK takes {chosen} experts, and {fix.length(0, k)} would be left: remove fewer")


@rule("ScatterElements", "Scatter")
def scatter_elements(n: NodeView) -> Rel:
    """Indices select along one axis; the other axes pass if the shapes agree."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 0), rank)
    mark = "~x" if _masks_experts(n.node, k) else "!x"
    data, inner = axes(rank, {k: mark}), axes(rank, {k: "!y"})
    return Rel(f"{data}, {inner}, {inner} -> {data}", zeros=((0,), (2,)), why="written at run time")


def _chooses_experts(node: ir.Node, axis: int) -> bool:
    """Whether all that reads the numbers of a TopK writes a mask that is multiplied with what the TopK sorts."""
    value, numbers = node.inputs[0], node.outputs[1]
    if value is None or not _is_probability(value, axis) or numbers.is_graph_output():
        return False
    uses = tuple(numbers.uses())  # without any, the largest values themselves are what is wanted
    return bool(uses) and all(use.idx == 1 and _is_mask_of(use.node, value, axis) for use in uses)


def _masks_experts(node: ir.Node, axis: int) -> bool:
    """Whether a scatter writes the mask of the experts that a TopK chose."""
    source = node.inputs[1].producer() if node.inputs[1] is not None else None
    if source is None or not is_op(source, "TopK") or node.inputs[1] is not source.outputs[1]:
        return False
    rank = len(source.inputs[0].shape or ()) if source.inputs[0] is not None else 0
    return bool(rank) and source.attributes.get_int("axis", -1) % rank == axis and _chooses_experts(source, axis)


def _is_mask_of(node: ir.Node, value: ir.Value, axis: int) -> bool:
    if not is_op(node, "ScatterElements", "Scatter") or value.shape is None:
        return False
    if node.attributes.get_int("axis", 0) % len(value.shape) != axis:
        return False
    return any(is_op(use.node, "Mul") and value in use.node.inputs for use in node.outputs[0].uses())


def _is_probability(value: ir.Value, axis: int) -> bool:
    node = value.producer()
    if node is None or not is_op(node, "Softmax", "Sigmoid"):
        return is_router(value, axis)
    return is_router(node.inputs[0], axis)
