"""The relations of a graph: every axis becomes a factor, and the rule of every node relates its factors.

Axes that cannot be related are frozen here, with the reason: no rule, an unknown shape, control flow, or an input or
output of the graph.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.dependency.bind import Binder
from edgeprune.dependency.closure import freeze_open
from edgeprune.dependency.dims import NodeView, rule_of
from edgeprune.dependency.groups import Freeze
from edgeprune.dependency.relations import Relations
from edgeprune.dependency.shape_flow import ShapeFlow
from edgeprune.errors import RuleError
from edgeprune.graph import has_subgraph, is_op, subgraphs


def relate(model: ir.Model) -> Relations:
    """Apply the rule of every node. It never raises: the axes of a node that does not fit are frozen."""
    graph = model.graph
    rels = Relations(nodes=list(graph))
    for value in (*graph.inputs, *graph.initializers.values()):
        rels.add_value(value)
    for node in rels.nodes:
        for value in node.outputs:
            rels.add_value(value)
    for value in graph.inputs:
        rels.freeze_value(value, Freeze("input of the graph", value.name))
    for value in graph.outputs:
        rels.freeze_value(value, Freeze("output of the graph", value.name))
    flow = ShapeFlow(rels)
    opset = graph.opset_imports.get("", 1)
    for index, node in enumerate(rels.nodes):
        if not flow.visit(node):
            _relate_node(rels, index, node, opset)
            flow.consume(index, node)
        if has_subgraph(node):
            for value in captured(node):
                flow.read(value, Freeze("its length is used by control flow", node.name))
    for value in graph.outputs:
        flow.read(value, Freeze("its length is an output of the graph", value.name))
    freeze_open(rels)
    return rels


def captured(node: ir.Node) -> list[ir.Value]:
    """Values of the outer graphs that the bodies of a node (If, Loop, Scan) read."""
    found: dict[int, ir.Value] = {}
    for body in subgraphs(node):
        inner = list(ir.traversal.RecursiveGraphIterator(body))
        own = {id(v) for n in inner for v in n.outputs} | {id(v) for v in (*body.inputs, *body.initializers.values())}
        for v in (*(v for n in inner for v in n.inputs), *body.outputs):
            if v is not None and id(v) not in own:
                found[id(v)] = v
    return list(found.values())


def _relate_node(rels: Relations, index: int, node: ir.Node, opset: int) -> None:
    if is_op(node, "Constant"):
        for v in node.outputs:
            rels.freeze_value(v, Freeze("constant that was not lifted to an initializer", node.name))
        return
    if has_subgraph(node):
        _freeze_node(rels, node, Freeze("control flow", node.name), captured(node))
        return
    function = rule_of(node.domain, node.op_type)
    if function is None:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        _freeze_node(rels, node, Freeze(f"no rule for {name}", node.name), ())
        return
    try:
        rel = function(NodeView(node, opset))
        Binder(rels, index, node, rel).bind()
        rels.rels[index] = rel
    except RuleError as error:
        _freeze_node(rels, node, Freeze(f"{node.op_type}: {error}", node.name), ())


def _freeze_node(rels: Relations, node: ir.Node, why: Freeze, outer: list[ir.Value] | tuple[()]) -> None:
    for value in (*node.inputs, *node.outputs, *outer):
        rels.freeze_value(value, why)
