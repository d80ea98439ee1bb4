"""A LayerNormalization that an exporter wrote as single operators becomes one operator.

    m = ReduceMean(x)    c = x - m    v = ReduceMean(c²)    y = c / Sqrt(v + e) * scale + shift

Exporters write it so below opset 17. In FP16 the square overflows (ViT-B falls to 19% top-1), so its nodes have to stay
in FP32, between Casts. As one operator TensorRT computes the statistics in FP32 and everything else in FP16.

Requires canonical models. Ensures that every value which something else reads has the same name, shape and values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import PassError
from edgeprune.graph import (
    constant,
    convert_opset,
    dim_keys,
    input_at,
    ints_attribute,
    is_op,
    naming,
    new_initializer,
    new_node,
    only_use,
    remove_dead,
    replace_value,
)

OPSET = 17


def fuse_layer_norms(model: ir.Model) -> ir.Model:
    """A copy in which every written-out LayerNormalization is one operator; the model itself if it has none.

    The model itself also if it cannot be converted to opset 17.
    """
    if not any(_match(node) for node in model.graph):
        return model
    try:
        copy = convert_opset(model, OPSET) if model.graph.opset_imports.get("", 1) < OPSET else graphs.clone(model)
    except PassError:
        return model
    with naming(copy.graph):
        for node in copy.graph:
            if (norm := _match(node)) is not None:
                _fuse(copy.graph, norm)
    remove_dead(copy.graph)
    return graphs.infer_shapes(copy)


@dataclass(frozen=True, eq=False)
class _Norm:
    """A LayerNormalization over the axes from ``axis`` on; ``last`` computes its result."""

    source: ir.Value
    axis: int
    epsilon: float
    scale: ir.Value | None
    shift: ir.Value | None
    last: ir.Node


def _match(node: ir.Node) -> _Norm | None:
    """The normalization that a node divides for, or None."""
    parts = _quotient(node)
    if parts is None:
        return None
    centred, root = parts
    padded = _made(root.inputs[0], "Add")
    if padded is None:
        return None
    place = 0 if constant(padded.inputs[1]) is not None else 1
    epsilon, variance = constant(padded.inputs[1 - place]), _made(padded.inputs[place], "ReduceMean")
    square = None if variance is None else _made(variance.inputs[0], "Pow", "Mul")
    difference = _made(centred, "Sub")
    if epsilon is None or epsilon.size != 1 or variance is None or square is None or difference is None:
        return None
    mean, source = _made(difference.inputs[1], "ReduceMean"), difference.inputs[0]
    if mean is None or source is None or mean.inputs[0] is not source or source.dtype != ir.DataType.FLOAT:
        return None
    again = _made(square.inputs[0], "Sub")  # some exporters subtract the mean twice
    same = again is difference or (again is not None and list(again.inputs) == list(difference.inputs))
    axis = _first_axis(mean)
    if not same or not _is_square(square) or axis is None or axis != _first_axis(variance):
        return None
    inside = {n for n in (mean, difference, again, square, variance, padded, root, *root.outputs[0].consumers()) if n}
    results = [v for n in inside - {node} for v in n.outputs]
    if any(v.is_graph_output() or not set(v.consumers()) <= {*inside, node} for v in results):
        return None
    return _with_affine(source, axis, float(epsilon.reshape(())), node)


def _quotient(node: ir.Node) -> tuple[ir.Value, ir.Node] | None:
    """(c, the Sqrt) of a node that computes c / Sqrt(...), or c times the reciprocal of it."""
    if is_op(node, "Div"):
        pairs = [(node.inputs[0], node.inputs[1])]
    elif is_op(node, "Mul"):
        pairs = [(node.inputs[i], _inverted(node.inputs[1 - i])) for i in (0, 1)]
    else:
        return None
    for centred, value in pairs:
        if centred is not None and (root := _made(value, "Sqrt")) is not None:
            return centred, root
    return None


def _inverted(value: ir.Value | None) -> ir.Value | None:
    """X of a value that is 1 / x."""
    if (node := _made(value, "Reciprocal")) is not None:
        return node.inputs[0]
    node = _made(value, "Div")
    one = None if node is None else constant(node.inputs[0])
    return node.inputs[1] if node is not None and one is not None and one.size == 1 and one.reshape(()) == 1 else None


def _made(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if is_op(node, *op_types) else None


def _is_square(node: ir.Node) -> bool:
    if node.op_type == "Mul":
        return node.inputs[0] is node.inputs[1]
    exponent = constant(node.inputs[1])
    return exponent is not None and exponent.size == 1 and float(exponent.reshape(())) == 2


def _first_axis(mean: ir.Node) -> int | None:
    """The first axis that a ReduceMean reduces, if it keeps them and reduces all that follow."""
    source = mean.inputs[0]
    rank = None if source is None or source.shape is None else len(source.shape)
    given = ints_attribute(mean, "axes")
    if given is None and (stated := constant(input_at(mean, 1))) is not None:
        given = tuple(int(k) for k in stated.reshape(-1))
    if rank is None or not given or mean.attributes.get_int("keepdims", 1) != 1:
        return None
    axes = sorted(k % rank for k in given)
    return axes[0] if axes == list(range(axes[0], rank)) else None


def _with_affine(source: ir.Value, axis: int, epsilon: float, last: ir.Node) -> _Norm | None:
    """The normalization with the constants that its result is multiplied with and shifted by."""
    wanted = (dim_keys(source) or ())[axis:]
    found: dict[str, ir.Value | None] = {"Mul": None, "Add": None}
    for op in found:
        use = only_use(last.outputs[0])
        other = None if use is None or not is_op(use[0], op) else use[0].inputs[1 - use[1]]
        array = constant(other)
        if use is None or other is None or array is None:
            continue
        if array.shape[-len(wanted) :] != wanted or array.size != math.prod(array.shape[-len(wanted) :]):
            break
        found[op], last = other, use[0]
    if found["Mul"] is None and not all(isinstance(n, int) for n in wanted):
        return None
    return _Norm(source, axis, epsilon, found["Mul"], found["Add"], last)


def _fuse(graph: ir.Graph, norm: _Norm) -> None:
    name, result = str(norm.last.name), norm.last.outputs[0]
    assert norm.source.shape is not None
    sizes = norm.source.shape[norm.axis :]
    scale = norm.scale or new_initializer(graph, f"{name}_scale", np.ones([int(str(n)) for n in sizes], np.float32))
    inputs = [norm.source, _of_rank(graph, scale, len(sizes))]
    inputs += [] if norm.shift is None else [_of_rank(graph, norm.shift, len(sizes))]
    node = new_node(
        graph,
        "LayerNormalization",
        inputs,
        f"{name}_fused",
        ir.DataType.FLOAT,
        {"axis": norm.axis - len(norm.source.shape), "epsilon": norm.epsilon},
    )
    graph.insert_before(norm.last, node)
    old = str(result.name)
    replace_value(result, node.outputs[0])
    norm.last.name, result.name = f"{name}_before", f"{old}_before"
    node.name, node.outputs[0].name = name, old


def _of_rank(graph: ir.Graph, vector: ir.Value, rank: int) -> ir.Value:
    """A constant without leading axes of length 1."""
    array = constant(vector)
    assert array is not None
    if array.ndim == rank:
        return vector
    return new_initializer(graph, str(vector.name), array.reshape(array.shape[-rank:]))
