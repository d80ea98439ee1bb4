"""Do what lies pointwise between two products on rows, instead of laying the rows out and flattening them again.

`edgeprune.passes.x86.biased_products` puts a Reshape behind each product and one before the next. Where nothing but
pointwise functions and a quantization are between them, as in the feed-forward part of a transformer's block, neither
is needed: each costs a kernel call, which is a good part of what a small product takes.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edgeprune.graph import constant, dim_keys, is_op, remove_dead

_POINTWISE = (
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "Mul",
    "Neg", "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
)  # fmt: skip


def stay_flat(graph: ir.Graph, products: Iterable[ir.Node]) -> None:
    """Take the Reshapes out between the results of these products, of two axes, and those that read them so, in place.

    Ensures that the model computes the same; a value in between has the two axes of the products from then on.
    """
    remove_dead(graph)  # quantized values that were read only before their rows were flattened
    for product in products:
        readers = product.outputs[0].consumers()
        if len(readers) != 1 or not is_op(readers[0], "Reshape") or product.outputs[0].is_graph_output():
            continue
        view = readers[0]
        found = _between(view)
        if found is None:
            continue
        inside, flattening = found
        view.outputs[0].replace_all_uses_with(product.outputs[0])
        for reshape in flattening:
            source = reshape.inputs[0]
            assert source is not None
            reshape.outputs[0].replace_all_uses_with(source)
        for node in inside:
            for value in node.outputs:
                value.shape = product.outputs[0].shape
        graph.remove([view, *flattening], safe=True)


def _between(view: ir.Node) -> tuple[list[ir.Node], list[ir.Node]] | None:
    """The nodes behind a Reshape of rows, and the Reshapes that flatten what they give; None if there is anything else.

    Nodes are in no particular order.
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
    """Whether a node gives rows of the same length as the product that is looked at."""
    target = constant(node.inputs[1]) if is_op(node, "Reshape") and not node.outputs[0].is_graph_output() else None
    return target is not None and target.tolist() == [-1, depth]


def _broadcasts(value: ir.Value) -> bool:
    """A constant that means the same for rows of any layout: one number, or one for every column."""
    array = constant(value)
    return array is not None and array.ndim <= 1
