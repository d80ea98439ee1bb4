"""Drop the Reshapes between two Gemms that have only pointwise nodes between them.

`edgeprune.passes.x86.matmul_bias` puts a Reshape behind each Gemm and one before the next. If only pointwise nodes and
Q/DQ lie between them, as in the feed-forward part of a transformer block, neither is needed. Each costs a kernel call,
which is a large part of the latency of a small Gemm.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, is_op, remove_dead

_POINTWISE = (
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul",
    "Neg", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
)  # fmt: skip


def drop_reshapes(graph: ir.Graph, gemms: Iterable[ir.Node]) -> None:
    """Drop the Reshapes between these Gemms and the Gemms that read their results, in place.

    Ensures that the model computes the same. A value between two Gemms has two axes from then on.
    """
    remove_dead(graph)  # quantized values whose readers all read the flattened rows now
    for gemm in gemms:
        readers = gemm.outputs[0].consumers()
        if len(readers) != 1 or not is_op(readers[0], "Reshape") or gemm.outputs[0].is_graph_output():
            continue
        view = readers[0]
        found = _between(view)
        if found is None:
            continue
        inside, flattening = found
        view.outputs[0].replace_all_uses_with(gemm.outputs[0])
        for reshape in flattening:
            source = reshape.inputs[0]
            assert source is not None
            reshape.outputs[0].replace_all_uses_with(source)
        for node in inside:
            for value in node.outputs:
                value.shape = gemm.outputs[0].shape
        graph.remove([view, *flattening], safe=True)


def _between(view: ir.Node) -> tuple[list[ir.Node], list[ir.Node]] | None:
    """The pointwise nodes behind a Reshape, and the Reshapes that flatten their results; None if there are other nodes.

    The nodes are in no particular order.
    """
    depth = (dim_keys(view.outputs[0]) or (None,))[-1]
    inside: dict[ir.Node, None] = {}
    flattening: dict[ir.Node, None] = {}
    todo = [view.outputs[0]]
    while todo:
        value = todo.pop()
        if value.is_graph_output() or not value.uses():
            return None
        for node in value.consumers():
            if is_op(value.producer(), "QuantizeLinear") and _flattens(node, depth):
                flattening[node] = None
            elif is_op(node, *_POINTWISE, "QuantizeLinear", "DequantizeLinear"):
                if node not in inside:
                    inside[node] = None
                    todo.append(node.outputs[0])
            else:
                return None
    within = {view.outputs[0], *(node.outputs[0] for node in inside)}
    if all(v is None or v in within or _broadcasts(v) for node in inside for v in node.inputs):
        return list(inside), list(flattening)
    return None


def _flattens(node: ir.Node, depth: int | str | None) -> bool:
    """Whether a node is a Reshape to rows of this length."""
    target = constant(node.inputs[1]) if is_op(node, "Reshape") and not node.outputs[0].is_graph_output() else None
    return target is not None and target.tolist() == [-1, depth]


def _broadcasts(value: ir.Value) -> bool:
    """Whether a value is a constant that broadcasts to rows of any layout: one number, or one number per column."""
    array = constant(value)
    return array is not None and array.ndim <= 1
