"""Fold the last Transpose, before a Flatten and a linear layer, into the rows of the layer's weight.

A Keras classifier flattens channels-last. If the sizes are fixed, the weight's rows in channels-first order give the
same, and the channels of the convolution before are blocks of rows, as in an export from PyTorch. What computes element
by element between the two turns with them.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, constant, constant_tensor, dim_keys, input_at, is_op, new_initializer, only_use
from edgeprune.passes.layout.edits import Edits
from edgeprune.passes.layout.operators import turned
from edgeprune.passes.layout.order import Order
from edgeprune.passes.layout.rules import Turned


def flatten_rows(model: ir.Model) -> int:
    """Remove, in place, every such Transpose; returns how many. Dead nodes stay."""
    return sum(_fold(model, node) for node in list(model.graph) if is_op(node, "Transpose"))


def _fold(model: ir.Model, node: ir.Node) -> bool:
    order, source = Order(len(node.inputs[0].shape or ()) if node.inputs[0] is not None else 0), node.inputs[0]
    if order.rank < 3 or not order.turns_last(node) or source is None:
        return False
    between, use = _between(node, order, model.opset_imports.get("", 1))
    if use is None or use[1] != 0 or not _folds(model.graph, use[0], order):
        return False
    edits = Edits(order, Names(model))
    (use[0] if not between else between[0][0]).replace_input_with(use[1] if not between else between[0][1], source)
    for step, index, how in between:
        for operand in how.operands:
            if operand != index:
                edits.constant(step, operand)
        how.edit(step, edits)
        shape = step.outputs[0].shape
        step.outputs[0].shape = None if shape is None else ir.Shape(order.first(list(shape)))
    return True


def _between(
    node: ir.Node, order: Order, opset: int
) -> tuple[list[tuple[ir.Node, int, Turned]], tuple[ir.Node, int] | None]:
    """The nodes after a Transpose that turn with it, with the input that they read; and what reads the last of them."""
    found = []
    use = only_use(node.outputs[0])
    while use is not None and use[0].graph is node.graph:
        how = turned(use[0], order, opset)
        if how is None or how.results != (0,) or use[1] not in how.operands:
            break
        if any(constant_tensor(use[0].inputs[operand]) is None for operand in how.operands if operand != use[1]):
            break
        found.append((*use, how))
        use = only_use(use[0].outputs[0])
    return found, use


def _folds(graph: ir.Graph, view: ir.Node, order: Order) -> bool:
    """Reorder the rows of the layer behind a view that makes a row of each sample; False if this is not possible."""
    dims = dim_keys(view.inputs[0])
    sizes = [dim for dim in (dims or ())[1:] if isinstance(dim, int)]
    if dims is None or len(sizes) + 1 != len(dims) or not _flattens(view, math.prod(sizes), dims[0]):
        return False
    use = only_use(view.outputs[0])
    if use is None or use[1] != 0 or not is_op(use[0], "MatMul", "Gemm") or use[0].graph is not graph:
        return False
    layer = use[0]
    value = input_at(layer, 1)
    weight = constant(value)
    if value is None or weight is None or weight.ndim != 2 or only_use(value) is None:
        return False
    if layer.attributes.get_int("transA", 0):
        return False
    axis = 1 if layer.attributes.get_int("transB", 0) else 0
    places = np.arange(math.prod(sizes)).reshape(1, *sizes)
    rows = order.array(places).reshape(-1)
    layer.replace_input_with(1, new_initializer(graph, f"{value.name}__nchw", weight.take(rows, axis=axis)))
    return True


def _flattens(node: ir.Node, size: int, batch: int | str | None) -> bool:
    """Whether a node makes a row of each sample."""
    if is_op(node, "Flatten"):
        return node.attributes.get_int("axis", 1) == 1
    dims, target = dim_keys(node.outputs[0]), constant(input_at(node, 1))
    if not is_op(node, "Reshape") or dims is None or target is None or len(dims) != 2:
        return False
    first, second = (int(entry) for entry in target)
    # A zero keeps the batch. -1 is the batch where the row has its size; a number is the batch's own.
    return (second == size and first in (0, -1, batch)) or (second == -1 and first in (0, batch))
