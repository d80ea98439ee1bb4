"""Multiply-accumulates and parameters of a model whose shapes are known."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune.graph.edit import constant, dim_keys, has_subgraph, input_at, ints_attribute, subgraphs


def count_parameters(model: ir.Model) -> int:
    """Number of elements of all initializers of the main graph."""
    return sum(value.const_value.size for value in model.graph.initializers.values() if value.const_value is not None)


def count_macs(model: ir.Model) -> dict[str, int]:
    """Multiply-accumulates of every contraction: node name -> count, symbolic dimensions counted as 1.

    Conv and ConvTranspose are counted by the dense formula (padding included), as is usual. Elementwise work is not
    counted. The body of a Loop or Scan counts once for each of its trips, and once if their number is not known. An If
    counts as its branch with more.
    """
    return {node.name: macs for node in model.graph if node.name and (macs := _count(node))}


def _count(node: ir.Node) -> int:
    if node.domain != "":
        return 0
    if has_subgraph(node):
        bodies = [sum(map(_count, body)) for body in subgraphs(node)]
        return max(bodies) if node.op_type == "If" else sum(bodies) * _trips(node)
    return _MACS[node.op_type](node) if node.op_type in _MACS else 0


def _trips(node: ir.Node) -> int:
    """How often a body runs.

    The constant limit of a Loop, or the length of what it collects; the length of what a Scan reads;
    1 if that is not known.
    """
    if node.op_type == "Loop":
        limit = constant(input_at(node, 0))
        if limit is not None:
            return max(0, int(limit.reshape(-1)[0]))
        scanned = (_dims(value) for value in node.outputs[len(node.inputs) - 2 :])
        return next((dims[0] for dims in scanned if dims), 1)
    if node.op_type == "Scan":
        count = node.attributes.get_int("num_scan_inputs", 0)
        axes = ints_attribute(node, "scan_input_axes") or (0,) * count
        lengths = _dims(node.inputs[len(node.inputs) - count]) if count else []
        return lengths[axes[0]] if lengths else 1
    return 1


def _size(value: ir.Value | None) -> int:
    """Elements of a value; unknown dimensions count as 1, an unknown shape as 0 elements."""
    return math.prod(_dims(value)) if value is not None and value.shape is not None else 0


def _dims(value: ir.Value | None) -> list[int]:
    return [d if isinstance(d, int) else 1 for d in dim_keys(value) or ()]


def _conv(node: ir.Node, weight: int = 1) -> int:
    """Every output element is a dot product over (in channels / group) x kernel: the weight's other axes."""
    kernel = _dims(node.inputs[weight])
    return _size(node.outputs[0]) * math.prod(kernel[1:]) if kernel else 0


def _conv_transpose(node: ir.Node) -> int:
    """Every input element is scattered to (out channels / group) x kernel products."""
    return _size(node.inputs[0]) * math.prod(_dims(node.inputs[1])[1:])


def _matmul(node: ir.Node) -> int:
    left = _dims(node.inputs[0])
    return _size(node.outputs[0]) * left[-1] if left else 0


def _gemm(node: ir.Node) -> int:
    left = _dims(node.inputs[0])
    return _size(node.outputs[0]) * left[0 if node.attributes.get_int("transA", 0) else 1] if len(left) == 2 else 0


def _einsum(node: ir.Node) -> int:
    """The product of the sizes of all distinct indices, as in a single contraction loop."""
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    if len(terms) != len(node.inputs) or any("." in term for term in terms):
        return 0
    sizes = {
        index: d
        for term, value in zip(terms, node.inputs, strict=True)
        for index, d in zip(term, _dims(value), strict=False)
    }
    return math.prod(sizes.values()) if len(terms) > 1 else 0


def _recurrent(node: ir.Node) -> int:
    """For each step: input and hidden contraction of all gates, which are the sizes of W and R over the directions."""
    steps = math.prod(_dims(node.inputs[0])[:2])
    return steps * (_size(node.inputs[1]) + _size(node.inputs[2]))


def _attention(node: ir.Node) -> int:
    """Each query with every key, and each probability with a value; keys of earlier calls count too."""
    past = _dims(input_at(node, 4)) if len(node.inputs) > 4 else []
    keys = _dims(node.inputs[1])[-2:-1] + past[-2:-1]
    return (_size(node.inputs[0]) + _size(node.outputs[0])) * sum(keys)


_MACS = {
    "Attention": _attention,
    "Conv": _conv,
    "ConvInteger": _conv,
    "DeformConv": _conv,
    "QLinearConv": lambda node: _conv(node, weight=3),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}
