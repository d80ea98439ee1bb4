"""Remove the Q/DQ pairs of activations and keep their ranges, under the names of the values that they quantized."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import (
    ONNX_DOMAINS,
    constant,
    fresh_name,
    input_at,
    is_op,
    naming,
    new_initializer,
    new_node,
    only_use,
    remove_dead,
    replace_value,
)
from edgeprune.passes.dequantize.lifting import Grid, Lifting, limits

_BOUNDS = {
    "HardSigmoid": (0.0, 1.0),
    "Sigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Sin": (-1.0, 1.0),
    "Cos": (-1.0, 1.0),
    "Softsign": (-1.0, 1.0),
    "Tanh": (-1.0, 1.0),
}
_WITHIN = frozenset(
    {"AveragePool", "Dropout", "Flatten", "Gather", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool"}
    | {"ReduceMax", "ReduceMean", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose result lies within the bounds of their first input, and 0."""

Ranges = Mapping[str, tuple[float, float]]
"""Value name -> the lowest and the highest number that its quantized form can hold."""


def remove_pairs(model: ir.Model) -> tuple[ir.Model, Ranges]:
    """A copy without Q/DQ pairs, and the ranges of the values that had one.

    A pair also clips: quantizers leave out a Relu or Clip before it, and training counts on it. Where the graph does
    not show that a value stays within its range, a Clip takes the place of the pair, or of the Relu before it. What is
    quantized at an input or an output of the graph is written with plain arithmetic.
    """
    copy = graphs.clone(model)
    graph, ranges = copy.graph, dict[str, tuple[float, float]]()
    with naming(graph):
        lift = Lifting(graph)
        _merge_equal(lift)
        for node in list(graph):
            if is_op(node, "QuantizeLinear") and constant(node.inputs[0]) is None:
                _remove(lift, node, ranges)
        for node in list(graph):
            if is_op(node, "DequantizeLinear") and node.inputs[0] is not None and node.inputs[0].is_graph_input():
                _open_border(lift, node)
    remove_dead(graph)
    present = {str(v.name) for v in graph.inputs} | {str(v.name) for n in graph for v in n.outputs}
    return graphs.infer_shapes(copy), {name: found for name, found in ranges.items() if name in present}


def _merge_equal(lift: Lifting) -> None:
    """Let readers of a value that is quantized twice on one grid read the first of the two."""
    first: dict[tuple[ir.Value, ir.DataType | None], list[ir.Node]] = {}
    for node in list(lift.graph):
        if not is_op(node, "QuantizeLinear") or node.inputs[0] is None or node.outputs[0].is_graph_output():
            continue
        known = first.setdefault((node.inputs[0], node.outputs[0].dtype), [])
        grid = lift.grid(node, 1, 2)
        same = next((other for other in known if lift.grid(other, 1, 2).equals(grid)), None)
        if same is None:
            known.append(node)
        else:
            replace_value(node.outputs[0], same.outputs[0])
            lift.graph.remove(node, safe=True)


def _remove(lift: Lifting, node: ir.Node, ranges: dict[str, tuple[float, float]]) -> None:
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    grid, dtype = lift.grid(node, 1, 2), output.dtype or ir.DataType.UINT8
    target = source
    if not dtype.is_floating_point():
        lowest, highest = limits(dtype)
        low = float(((lowest - grid.zero) * grid.scale).min())
        high = float(((highest - grid.zero) * grid.scale).max())
        target = _clipped(lift, node, source, low, high, slack=float(grid.scale.max()) / 2)
        present = ranges.get(str(target.name), (0.0, 0.0))
        ranges[str(target.name)] = min(low, present[0]), max(high, present[1])
    for restore in list(output.consumers()):
        if is_op(restore, "DequantizeLinear") and not replace_value(restore.outputs[0], target):
            kept = lift.add(restore, "Identity", [target], f"{restore.name}_kept", {})
            kept.shape = restore.outputs[0].shape
            replace_value(restore.outputs[0], kept)
    if output.is_graph_output():
        _close_border(lift, node, target, grid, dtype)


def _clipped(lift: Lifting, node: ir.Node, source: ir.Value, low: float, high: float, slack: float) -> ir.Value:
    """The value without what lies below ``low`` or above ``high``, as the pair gives it."""
    lowest, highest = _bounds(source)
    if lowest >= low - slack and highest <= high + slack:
        return source
    producer = source.producer()
    use = only_use(source)
    in_place = is_op(producer, "Relu", "Clip") and use is not None and use[0] is node
    if in_place:  # one clip, not two
        low, high = max(low, lowest), min(high, highest)
    needed = (low if in_place or lowest < low else None, high if in_place or highest > high else None)
    bounds = [
        None if v is None else new_initializer(lift.graph, f"{source.name}_{what}", np.asarray(v, np.float32))
        for what, v in zip(("lowest", "highest"), needed, strict=True)
    ]
    if in_place and producer is not None:
        producer.op_type = "Clip"
        producer.resize_inputs(3)
        for index, bound in enumerate(bounds, 1):
            producer.replace_input_with(index, bound)
        return source
    clip = ir.node("Clip", [source, *bounds], num_outputs=1, name=fresh_name(lift.graph, f"{source.name}_clip"))
    output: ir.Value = clip.outputs[0]
    output.name, output.dtype = fresh_name(lift.graph, f"{source.name}_clipped"), ir.DataType.FLOAT
    output.shape = source.shape
    lift.graph.insert_before(node, clip)
    return output


def _bounds(value: ir.Value | None) -> tuple[float, float]:
    """Between which numbers a value lies, as far as the graph shows; infinite where it does not."""
    unknown, producer = (-np.inf, np.inf), None if value is None else value.producer()
    array = constant(value)
    if array is not None and array.size:
        return float(array.min()), float(array.max())
    if producer is None:
        return unknown
    if producer.domain in ONNX_DOMAINS and producer.op_type in _BOUNDS:
        return _BOUNDS[producer.op_type]
    if is_op(producer, "Abs", "Exp", "Softplus"):
        return 0.0, np.inf
    if is_op(producer, "Relu", "Clip"):
        low, high = _bounds(producer.inputs[0])
        limits_ = (constant(input_at(producer, k)) for k in (1, 2))
        least, most = (None if limit is None else float(limit) for limit in limits_)
        least = 0.0 if producer.op_type == "Relu" else least
        return max(low, -np.inf if least is None else least), min(high, np.inf if most is None else most)
    if is_op(producer, "Concat", "Add"):
        parts = [_bounds(v) for v in producer.inputs]
        if producer.op_type == "Add":
            return sum(p[0] for p in parts), sum(p[1] for p in parts)
        return min(p[0] for p in parts), max(p[1] for p in parts)
    if is_op(producer, *_WITHIN):
        low, high = _bounds(producer.inputs[0])
        return min(low, 0.0), max(high, 0.0)
    return unknown


def _open_border(lift: Lifting, node: ir.Node) -> None:
    """Dequantize an input of the graph by Cast, Sub and Mul."""
    grid, source = lift.grid(node, 1, 2), node.inputs[0]
    assert source is not None
    value = lift.add(node, "Cast", [source], f"{source.name}_float", {"to": ir.DataType.FLOAT.value})
    for op, array in (("Sub", grid.zero), ("Mul", grid.scale)):
        if op == "Mul" or array.any():
            operand = new_initializer(lift.graph, f"{source.name}_{op.lower()}", np.asarray(array, np.float32))
            value = lift.add(node, op, [value, operand], f"{source.name}_{op.lower()}", {})
    value.shape = source.shape
    if not replace_value(node.outputs[0], value):
        replace_value(node.outputs[0], lift.add(node, "Identity", [value], f"{node.name}_kept", {}))


def _close_border(lift: Lifting, node: ir.Node, value: ir.Value, grid: Grid, dtype: ir.DataType) -> None:
    """Quantize an output of the graph by Div, Round, Add, Clip and Cast, which give the same integers."""
    name, output = str(node.name), node.outputs[0]

    def number(what: str, array: object) -> ir.Value:
        return new_initializer(lift.graph, f"{name}_{what}", np.asarray(array, np.float32))

    low, high = limits(dtype)
    value = lift.add(node, "Div", [value, number("scale", grid.scale)], f"{name}_steps", {})
    value = lift.add(node, "Round", [value], f"{name}_round", {})
    if grid.zero.any():
        value = lift.add(node, "Add", [value, number("zero", grid.zero)], f"{name}_shift", {})
    value = lift.add(node, "Clip", [value, number("low", low), number("high", high)], f"{name}_clip", {})
    cast = new_node(lift.graph, "Cast", [value], f"{name}_integers", dtype, {"to": dtype.value})
    lift.graph.insert_before(node, cast)
    cast.outputs[0].shape = output.shape
    replace_value(output, cast.outputs[0])
