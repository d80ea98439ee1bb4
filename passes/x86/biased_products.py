"""Products of activations with a matrix, plus a bias, in the one form that onnxruntime runs on integers at its best.

onnxruntime makes ``MatMul -> Add`` a Gemm between two Reshapes wherever it knows all sizes. That Gemm keeps a bias in
float, and no integer kernel takes it unless its result is quantized too: the weights are dequantized in every inference
and multiplied as floats, so that a transformer of fixed sizes runs several times *slower* than before it was quantized.
Where a size is open, the integers are multiplied, but the bias is added by a kernel of its own.

Written as that Gemm from the start, with a bias of integers, it is one kernel in both cases. That is done in two steps,
since scales are chosen in between, for activations that keep their names: `merge_biases`, then `flatten_rows`.

No kernel gives floats and integers at once: a product that is read as both falls back likewise, and so does one of two
axes before a sum, which onnxruntime takes for a bias. A Reshape that changes nothing keeps them apart (`keep_apart`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import constant, is_op, new_initializer, new_node, only_use, replace_value, static_shape


def merge_biases(graph: ir.Graph, int8: Collection[str]) -> tuple[ir.Node, ...]:
    """Replace every biased product among the named nodes by a Gemm of its name; returns these.

    The Gemm's result is named like the sum's. Its first input still has as many axes as before, which
    `flatten_rows` has to mend.
    """
    merged = []
    for node in list(graph):
        found = _bias_of(node) if node.name in int8 else None
        if found is None:
            continue
        add, bias = found
        x, weight = node.inputs
        assert x is not None
        assert weight is not None
        name, result = str(node.name), str(add.outputs[0].name)
        vector = new_initializer(graph, f"{name}_bias", np.ascontiguousarray(bias.ravel()))
        gemm = new_node(graph, "Gemm", [x, weight, vector], f"{name}_biased", ir.DataType.FLOAT)
        gemm.outputs[0].shape = add.outputs[0].shape
        graph.insert_before(add, gemm)
        replace_value(add.outputs[0], gemm.outputs[0])
        graph.remove([add, node], safe=True)
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
        _reshaped(graph, gemm, [d if isinstance(d, int) else -1 for d in shape], "rows")
        result.shape = ir.Shape([None, shape[-1]])


def _reshaped(graph: ir.Graph, node: ir.Node, target: list[int], what: str) -> None:
    """Reshape a node's result for all its readers; the Reshape's result takes over name and shape."""
    result = node.outputs[0]
    sizes = new_initializer(graph, f"{result.name}_{what}_shape", np.array(target, dtype=np.int64))
    view = new_node(graph, "Reshape", [result, sizes], f"{result.name}_{what}", ir.DataType.FLOAT)
    graph.insert_after(node, view)
    name, restored = result.name, view.outputs[0]
    result.replace_all_uses_with(restored, replace_graph_outputs=True)
    view.replace_input_with(0, result)
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


def _bias_of(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """The sum behind a product with a constant matrix and the constant that it adds, one number a column."""
    if not is_op(node, "MatMul"):
        return None
    weight, use = constant(node.inputs[1]), only_use(node.outputs[0])
    if weight is None or weight.ndim != 2 or use is None or not is_op(use[0], "Add"):
        return None
    add, position = use
    bias, shape = constant(add.inputs[1 - position]), tuple(add.outputs[0].shape or ())
    if bias is None or bias.shape[-1:] != weight.shape[1:] or bias.size != weight.shape[1] or bias.ndim > len(shape):
        return None
    known = sum(isinstance(d, int) for d in shape)
    # All sizes but one have to be known to tell a Reshape the sizes of its result.
    return (add, bias) if len(shape) >= 2 and known >= len(shape) - 1 and isinstance(shape[-1], int) else None


def keep_apart(graph: ir.Graph, int8: Collection[str]) -> None:
    """Put a Reshape behind every product on integers whose readers would keep onnxruntime from its integer kernels."""
    for node in [n for n in graph if n.name in int8 and is_op(n, "Gemm", "MatMul")]:
        result = node.outputs[0]
        shape = tuple(result.shape or ())
        if not shape or not isinstance(shape[-1], int):
            continue
        kinds = {"integers" if is_op(c, "QuantizeLinear") else "floats" for c in result.consumers()}
        if result.is_graph_output():
            kinds.add("floats")
        taken = len(shape) == 2 and node.op_type == "MatMul" and any(is_op(c, "Add") for c in result.consumers())
        if len(kinds) == 2 or taken:
            _reshaped(graph, node, [*(0 for _ in shape[:-1]), shape[-1]], "apart")
