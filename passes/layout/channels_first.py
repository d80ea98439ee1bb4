"""Let the channels-last parts of a network compute on channels-first tensors, as its convolutions do.

Exports from TensorFlow and Keras put a Transpose before and after every convolution and pooling, and all else computes
on channels-last tensors. A part whose Transposes become fewer is turned: its broadcast constants, axes, pads and scales
are rewritten, and the Transposes at its ends go. Where a part meets what must stay channels-last, as a Flatten, one
Transpose is left.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import Names, add_node, constant_tensor, ints_attribute, is_op, replace_value
from edgeprune.passes.layout.edits import Edits
from edgeprune.passes.layout.order import Order
from edgeprune.passes.layout.regions import Candidates, Region, candidates, produced_in, regions

_RANKS = (3, 4, 5)
_OPSET = 7
"""Before it, broadcasting had attributes of its own. Newer forms of single operators: see `operators.py`."""


def channels_first(model: ir.Model) -> int:
    """Turn, in place, every part that needs fewer Transposes then; returns how many nodes. Dead nodes stay."""
    opset = model.opset_imports.get("", 0)
    if opset < _OPSET:
        return 0
    perms = {ints_attribute(node, "perm") for node in model.graph if is_op(node, "Transpose")}
    names, count = Names(model), 0
    for order in map(Order, _RANKS):
        if not perms & {order.to_last, order.to_first}:
            continue
        known, edits = candidates(model.graph, order, opset), Edits(order, names)
        for region in regions(model.graph, order, known):
            if not _contradicts(region, known, order):
                _turn(model.graph, region, known, edits)
                count += len(region)
    return count


def _contradicts(region: Region, known: Candidates, order: Order) -> bool:
    """Whether a Transpose to channels-last, which the region reads through, starts at a value that turns itself."""
    for node in region:
        for index in known[node].operands:
            value = node.inputs[index]
            producer = None if value is None else value.producer()
            source = producer.inputs[0] if producer is not None and order.turns_last(producer) else None
            if source is not None and produced_in(source, region, known):
                return True
    return False


def _turn(graph: ir.Graph, region: Region, known: Candidates, edits: Edits) -> None:
    entering: dict[ir.Value, ir.Value] = {}
    nodes = [node for node in graph if node in region]
    results = [node.outputs[index] for node in nodes for index in known[node].results]
    for node in nodes:
        for index in known[node].operands:
            value = node.inputs[index]
            assert value is not None
            if produced_in(value, region, known):
                continue
            if constant_tensor(value) is not None:
                edits.constant(node, index)
                continue
            if value not in entering:
                entering[value] = _first(graph, value, edits)
            node.replace_input_with(index, entering[value])
        known[node].edit(node, edits)
    for value in results:
        if value.shape is not None:
            value.shape = ir.Shape(edits.order.first(list(value.shape)))
    for value in results:
        _restore(graph, value, region, known, edits)


def _first(graph: ir.Graph, value: ir.Value, edits: Edits) -> ir.Value:
    """A channels-last value from outside the region in channels-first."""
    producer = value.producer()
    if producer is not None and edits.order.turns_last(producer) and producer.inputs[0] is not None:
        return producer.inputs[0]
    turned = _transpose(graph, value, edits.order.to_first, edits)
    for use in tuple(value.uses()):
        if use.node is not turned.producer() and edits.order.turns_first(use.node) and use.node.graph is graph:
            replace_value(use.node.outputs[0], turned)
    return turned


def _restore(graph: ir.Graph, value: ir.Value, region: Region, known: Candidates, edits: Edits) -> None:
    """Give those readers of a turned value that stay outside the channels-last form; Transposes of it go."""
    uses = [use for use in value.uses() if use.node not in region or use.idx not in known[use.node].operands]
    turning = [use for use in uses if edits.order.turns_first(use.node) and use.node.graph is graph]
    # Two outputs of the graph that would be the same value stay two.
    turning = turning[:1] + [use for use in turning[1:] if not use.node.outputs[0].is_graph_output()]
    outside = [use for use in uses if use not in turning]
    shown = value.is_graph_output()
    if outside or shown:
        last = _transpose(graph, value, edits.order.to_last, edits)
        for use in outside:
            use.node.replace_input_with(use.idx, last)
        if shown:
            for index, output in enumerate(graph.outputs):
                if output is value:
                    graph.outputs[index] = last
            last.name, value.name = value.name, edits.names.fresh(f"{value.name}__nchw")
            last.type = value.type
    for use in turning:
        replace_value(use.node.outputs[0], value)


def _transpose(graph: ir.Graph, value: ir.Value, perm: tuple[int, ...], edits: Edits) -> ir.Value:
    """A new Transpose directly after the producer of a value, before all its readers."""
    dims = None if value.shape is None else [value.shape[axis] for axis in perm]
    attributes = [ir.AttrInt64s("perm", perm)]
    producer = value.producer()
    before = next(iter(graph))
    name = f"{value.name}_transposed"
    turned = add_node(
        before, "Transpose", [value], edits.names, attributes=attributes, name=name, like=value, shape=dims
    )
    node = turned.producer()
    if producer is not None and node is not None:
        graph.remove(node)
        graph.insert_after(producer, node)
    return turned
