"""MatMul with a bias, in the form that onnxruntime runs with its fastest INT8 kernel.

onnxruntime turns ``MatMul -> Add`` into a Gemm between two Reshapes if it knows all sizes. That Gemm keeps its bias in
float, and an INT8 kernel takes it only if its result is quantized too. Otherwise onnxruntime dequantizes the weights in
every inference and multiplies floats: a transformer with fixed sizes then runs several times *slower* in INT8 than in
float. If a size is open, the MatMul runs in INT8, but a separate kernel adds the bias.

If the model has the Gemm from the start, with an INT32 bias, it is one kernel in both cases. This takes two steps:
`merge_biases` before the scales are chosen, so that activations keep their names, and `flatten_rows` after.

No kernel gives both floats and quantized values. So an INT8 MatMul whose result is read as both also falls back to
float. The same happens if the result has two axes and an Add reads it, because onnxruntime takes the Add for a bias. A
Reshape that changes nothing keeps the readers apart (`separate_readers`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import constant, is_op, new_initializer, new_node, only_use, static_shape
from edgeprune.passes.x86.edits import append, dequantized_after, take_place


def merge_biases(graph: ir.Graph, int8: Collection[str]) -> tuple[ir.Node, ...]:
    """Replace every named MatMul with a bias by a Gemm of the same name; returns the Gemms.

    The Gemm's result gets the name of the sum. Its first input still has as many axes as before: `flatten_rows` has to
    correct that.
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
        name = str(node.name)
        vector = new_initializer(graph, f"{name}_bias", np.ascontiguousarray(bias.ravel()))
        gemm = new_node(graph, "Gemm", [x, weight, vector], f"{name}_biased", ir.DataType.FLOAT)
        gemm.outputs[0].shape = add.outputs[0].shape
        take_place(graph, add, gemm)
        graph.remove(node, safe=True)
        gemm.name = name
        merged.append(gemm)
    return tuple(merged)


def biases_to_merge(graph: ir.Graph, int8: Collection[str]) -> dict[ir.Node, ir.Node]:
    """Add -> MatMul, of the pairs that `merge_biases` makes one Gemm."""
    found = ((node, _bias_of(node)) for node in graph if node.name in int8)
    return {bias[0]: node for node, bias in found if bias is not None}


def flatten_rows(graph: ir.Graph, merged: Iterable[ir.Node]) -> None:
    """Reshape the quantized input of each of these Gemms to two axes, and the result back to its own axes."""
    flat: dict[ir.Value, ir.Value] = {}
    for gemm in merged:
        result = gemm.outputs[0]
        shape = tuple(result.shape or ())
        if len(shape) == 2:
            continue
        data, weight_shape = gemm.inputs[0], static_shape(gemm.inputs[1])
        assert data is not None
        assert weight_shape is not None
        if data not in flat:
            sizes = new_initializer(graph, f"{data.name}_flat_shape", np.array([-1, weight_shape[0]], dtype=np.int64))
            flat[data] = dequantized_after(graph, data, "Reshape", [sizes], "flat", [None, weight_shape[0]])
        gemm.replace_input_with(0, flat[data])
        _append_reshape(graph, gemm, [d if isinstance(d, int) else -1 for d in shape], "rows")
        result.shape = ir.Shape([None, shape[-1]])


def _append_reshape(graph: ir.Graph, node: ir.Node, target: list[int], suffix: str) -> None:
    name = f"{node.outputs[0].name}_{suffix}"
    sizes = new_initializer(graph, f"{name}_shape", np.array(target, dtype=np.int64))
    append(graph, node, "Reshape", [sizes], name)


def _bias_of(node: ir.Node) -> tuple[ir.Node, NDArray[Any]] | None:
    """The Add behind a MatMul with a constant matrix, and the constant that it adds, one number per column."""
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
    # A Reshape can state the sizes of its result only if at most one of them is open.
    return (add, bias) if len(shape) >= 2 and known >= len(shape) - 1 and isinstance(shape[-1], int) else None


def separate_readers(graph: ir.Graph, int8: Collection[str]) -> None:
    """Put a Reshape behind every named Gemm and MatMul whose readers would keep onnxruntime from its INT8 kernels."""
    for node in [n for n in graph if n.name in int8 and is_op(n, "Gemm", "MatMul")]:
        result = node.outputs[0]
        shape = tuple(result.shape or ())
        if not shape or not isinstance(shape[-1], int):
            continue
        kinds = {"int8" if is_op(c, "QuantizeLinear") else "float" for c in result.consumers()}
        if result.is_graph_output():
            kinds.add("float")
        taken = len(shape) == 2 and node.op_type == "MatMul" and any(is_op(c, "Add") for c in result.consumers())
        if len(kinds) == 2 or taken:
            _append_reshape(graph, node, [*(0 for _ in shape[:-1]), shape[-1]], "apart")
