"""The parts of a graph that are cheaper in channels-first: a choice of nodes, by the Transposes that it removes."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TypeAlias

import onnx_ir as ir

from edgeprune.graph import constant_tensor
from edgeprune.passes.layout.operators import turned
from edgeprune.passes.layout.order import Order
from edgeprune.passes.layout.rules import Turned

Candidates: TypeAlias = Mapping[ir.Node, Turned]
Region: TypeAlias = dict[ir.Node, None]
"""A set of nodes with an order, so that equal models give equal results."""


def candidates(graph: ir.Graph, order: Order, opset: int) -> dict[ir.Node, Turned]:
    """All nodes that can compute on channels-first tensors."""
    found = ((node, turned(node, order, opset)) for node in graph)
    return {node: how for node, how in found if how is not None}


def regions(graph: ir.Graph, order: Order, known: Candidates) -> list[Region]:
    """Sets of connected nodes whose Transposes are fewer, or as many and smaller, in channels-first."""
    chosen = []
    for region in _connected(graph, known):
        touched = {value for node in region for value in layout_values(node, known)}
        before = [transposed(value, (), known, order) for value in touched]
        if not sum(before):
            continue
        _peel(region, known, order)
        after = [transposed(value, region, known, order) for value in touched]
        # A Split of a Transpose is no gain if each part needs its own then, although less is moved.
        if region and sum(after) < sum(before) and sum(map(bool, after)) <= sum(map(bool, before)):
            chosen.append(region)
    return chosen


def layout_values(node: ir.Node, known: Candidates) -> list[ir.Value]:
    """The inputs and outputs of a node that turn, constants left out."""
    inputs = [node.inputs[index] for index in known[node].operands]
    own = [value for value in inputs if value is not None and constant_tensor(value) is None]
    return own + [node.outputs[index] for index in known[node].results]


def produced_in(value: ir.Value, region: Container[ir.Node], known: Candidates) -> bool:
    """Whether a node of the region gives a value, and as one that turns."""
    producer = value.producer()
    return producer is not None and producer in region and value.index() in known[producer].results


def _connected(graph: ir.Graph, known: Candidates) -> list[Region]:
    """The candidates, joined where they share a value that turns."""
    neighbours: dict[ir.Value, list[ir.Node]] = {}
    for node in known:
        for value in layout_values(node, known):
            neighbours.setdefault(value, []).append(node)
    seen: set[ir.Node] = set()
    found = []
    for start in known:
        if start in seen:
            continue
        seen.add(start)
        region: Region = {}
        ahead = [start]
        while ahead:
            node = ahead.pop()
            region[node] = None
            for value in layout_values(node, known):
                new = list(dict.fromkeys(other for other in neighbours[value] if other not in seen))
                seen.update(new)
                ahead += new
        found.append(region)
    return found


def transposed(value: ir.Value, region: Container[ir.Node], known: Candidates, order: Order) -> int:
    """What the Transposes of a value cost if the nodes of the region compute on channels-first tensors."""
    inside = outside = first = False
    for use in value.uses():
        if use.node in region and use.idx in known[use.node].operands:
            inside = True
        elif order.turns_first(use.node) and use.node.graph is value.graph:
            first = True
        else:
            outside = True
    outside |= value.is_graph_output()
    if produced_in(value, region, known) or order.turns_last(value.producer()):
        return order.cost(value) if outside else 0
    return order.cost(value) if inside or first else 0


def _peel(region: Region, known: Candidates, order: Order) -> None:
    """Drop nodes, in place, as long as none of the drops makes the Transposes more: few changes win a tie."""
    ahead = list(region)
    while ahead:
        node = ahead.pop()
        if node not in region:
            continue
        values = layout_values(node, known)
        own = sum(transposed(value, region, known, order) for value in set(values))
        del region[node]
        if sum(transposed(value, region, known, order) for value in set(values)) > own:
            region[node] = None
            continue
        around = [use.node for value in values for use in value.uses()]
        around += [producer for value in values if (producer := value.producer()) is not None]
        ahead += [other for other in around if other in region]
