"""Cast a uint8 input first, and move its pixels as floats.

TensorRT takes a uint8 input only if a Cast reads it. Cameras give NHWC pixels, and a graph may transpose, crop or
reshape them before it casts. A float holds every uint8 exactly, so the Cast may as well come first.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import Names, add_node, is_op, remove_dead, replace_value

_MOVES = (
    *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherND", "Identity", "Reshape", "Slice", "SpaceToDepth"),
    *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
)
"""Operators that only move the elements of their first input."""


def cast_pixels_first(model: ir.Model) -> ir.Model:
    """A copy whose uint8 inputs go straight into a Cast, where only moves lie between the input and its Casts.

    An input that anything else reads as uint8 is left as it is.
    """
    result = graphs.clone(model)
    names = Names(result)
    for value in result.graph.inputs:
        if value.dtype is not ir.DataType.UINT8 or value.is_initializer():
            continue
        moves, casts = _readers(value, result.graph)
        if moves and casts:
            _cast_first(result.graph, value, moves, casts, names)
    remove_dead(result.graph)
    return result


def _readers(value: ir.Value, graph: ir.Graph) -> tuple[list[ir.Node], list[ir.Node]]:
    """The moves behind a value, and the Casts behind them; no Casts if anything else reads the pixels."""
    moves: list[ir.Node] = []
    casts: list[ir.Node] = []
    waiting = [value]
    while waiting:
        pixels = waiting.pop()
        if pixels.is_graph_output():
            return moves, []
        for node, index in pixels.uses():
            if node.graph is not graph:
                return moves, []
            if is_op(node, "Cast"):
                casts.append(node)
            elif is_op(node, *_MOVES) and index == 0:
                moves.append(node)
                waiting.extend(node.outputs)
            else:
                return moves, []
    return moves, casts


def _cast_first(graph: ir.Graph, value: ir.Value, moves: list[ir.Node], casts: list[ir.Node], names: Names) -> None:
    targets = {cast.attributes.get_int("to", 0) for cast in casts}
    kind = ir.DataType(targets.pop()) if len(targets) == 1 else ir.DataType.FLOAT
    if kind not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.INT32):
        kind = ir.DataType.FLOAT
    uses = list(value.uses())
    readers = {use.node for use in uses}
    first = next(node for node in graph if node in readers)
    attributes = [ir.AttrInt64("to", kind.value)]
    floats = add_node(first, "Cast", [value], names, attributes=attributes, name=f"{value.name}_cast", like=value)
    floats.type = ir.TensorType(kind)
    for node, index in uses:
        node.replace_input_with(index, floats)
    for node in moves:
        for output in node.outputs:
            output.type = ir.TensorType(kind)
    for cast in casts:
        if cast.attributes.get_int("to", 0) == kind.value and cast.inputs[0] is not None:
            replace_value(cast.outputs[0], cast.inputs[0])
