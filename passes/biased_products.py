"""Products of activations with a matrix, plus a bias, in the one form that onnxruntime runs on integers at its best.

onnxruntime makes ``MatMul -> Add`` a Gemm between two Reshapes wherever it knows all sizes. That Gemm keeps a bias in
float, and no integer kernel takes it unless its result is quantized too: the weights are dequantized in every inference
and multiplied as floats, so that a transformer of fixed sizes runs several times *slower* than before it was quantized.
Where a size is open, the integers are multiplied, but the bias is added by a kernel of its own.

Written as that Gemm from the start, with a bias of integers, it is one kernel in both cases. That is done in two steps,
since scales are chosen in between, for activations that keep their names: `merge_biases`, then `flatten_rows`. A
product without a bias takes the same form where its result is read both as floats and as integers, which its own
kernels refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.passes.edit import constant, is_op, new_initializer, new_node, only_use, replace_value, static_shape


def merge_biases(graph: ir.Graph, int8: Collection[str]) -> tuple[ir.Node, ...]:
    """Replace the products among the named nodes that need it by a Gemm of their name; returns these.

    The Gemm's result is named like the sum's, if there is one. Its first input still has as many axes as before, which
    `flatten_rows` has to mend.
    """
    merged = []
    for node in list(graph):
        found = _product(node, int8) if node.name in int8 else None
        if found is None:
            continue
        last, bias = found
        x, weight = node.inputs
        assert x is not None
        assert weight is not None
        name, result, operands = str(node.name), str(last.outputs[0].name), [x, weight]
        if bias is not None:
            operands.append(new_initializer(graph, f"{name}_bias", np.ascontiguousarray(bias.ravel())))
        gemm = new_node(graph, "Gemm", operands, f"{name}_rows", ir.DataType.FLOAT)
        gemm.outputs[0].shape = last.outputs[0].shape
        graph.insert_before(last, gemm)
        replace_value(last.outputs[0], gemm.outputs[0])
        graph.remove({last, node}, safe=True)
        gemm.name, gemm.outputs[0].name = name, result
        merged.append(gemm)
    return tuple(merged)


def flatten_rows(graph: ir.Graph, merged: Iterable[ir.Node]) -> None:
    """Give each of these Gemms the two axes that it takes; what it reads is dequantized, the integers are reshaped."""
    flat: dict[ir.Value, ir.Value] = {}
    for gemm in merged:
        result = gemm.outputs[0]
        shape = tuple(result.shape or ())
        if len(shape) == 2:
            continue
        data, weight = gemm.inputs[0], gemm.inputs[1]
        assert data is not None
        assert weight is not None
        if data not in flat:
            flat[data] = _flattened(graph, data, _rows_of(weight))
        gemm.replace_input_with(0, flat[data])
        target = np.array([d if isinstance(d, int) else -1 for d in shape], dtype=np.int64)
        sizes = new_initializer(graph, f"{result.name}_shape", target)
        view = new_node(graph, "Reshape", [result, sizes], f"{result.name}_rows", ir.DataType.FLOAT)
        graph.insert_after(gemm, view)
        name, restored = result.name, view.outputs[0]
        result.replace_all_uses_with(restored, replace_graph_outputs=True)
        view.replace_input_with(0, result)
        restored.shape = ir.Shape(shape)
        result.shape = ir.Shape([None, shape[-1]])
        result.name, restored.name = restored.name, name


def _flattened(graph: ir.Graph, data: ir.Value, depth: int) -> ir.Value:
    """What this DequantizeLinear gives, in two axes, of which the last one stays and has this size."""
    read = data.producer()
    assert is_op(read, "DequantizeLinear")
    assert read is not None
    integers, scale, zero = read.inputs
    assert integers is not None
    assert scale is not None
    assert zero is not None
    sizes = new_initializer(graph, f"{data.name}_flat_shape", np.array([-1, depth], dtype=np.int64))
    rows = new_node(graph, "Reshape", [integers, sizes], f"{data.name}_flat", ir.DataType.UINT8)
    restored = new_node(graph, "DequantizeLinear", [rows.outputs[0], scale, zero], f"{data.name}_flat_dequantize",
                        ir.DataType.FLOAT)  # fmt: skip
    rows.outputs[0].shape = restored.outputs[0].shape = ir.Shape([None, depth])
    graph.insert_after(read, [rows, restored])
    value: ir.Value = restored.outputs[0]
    return value


def _rows_of(weight: ir.Value) -> int:
    shape = static_shape(weight)
    assert shape is not None
    return shape[0]


def _product(node: ir.Node, int8: Collection[str]) -> tuple[ir.Node, NDArray[Any] | None] | None:
    """The node that gives the result of a product with a constant matrix, and the bias in it, if there is one.

    None for a product that is best left as it is.
    """
    weight, use = constant(node.inputs[1]) if is_op(node, "MatMul") else None, only_use(node.outputs[0])
    if weight is None or weight.ndim != 2:
        return None
    bias = constant(use[0].inputs[1 - use[1]]) if use is not None and is_op(use[0], "Add") else None
    last = node if use is None or bias is None else use[0]
    shape = tuple(last.outputs[0].shape or ())
    if bias is not None:
        if bias.shape[-1:] != weight.shape[1:] or bias.size != weight.shape[1] or bias.ndim > len(shape):
            return None
    elif len(shape) < 3 or not _read_both_ways(node.outputs[0], int8):
        return None
    known = sum(isinstance(d, int) for d in shape)
    # All sizes but one have to be known to tell a Reshape the sizes of its result.
    return (last, bias) if len(shape) >= 2 and known >= len(shape) - 1 and isinstance(shape[-1], int) else None


def _read_both_ways(value: ir.Value, int8: Collection[str]) -> bool:
    """Whether floats and integers are wanted of a value: no kernel gives both, a Reshape between them does."""
    return len({c.name in int8 for c in value.consumers()} | ({False} if value.is_graph_output() else set())) == 2
