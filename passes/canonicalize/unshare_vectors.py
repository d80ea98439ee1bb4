"""Give every reader of a small shared weight its own tensor.

Exporters store equal vectors (biases of zeros, scales of ones) once for all layers. Then a channel can only be removed
from all these layers together. Large shared weights stay shared: that is a decision of the model.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import Names, add_initializer

MAX_BYTES = 65_536
"""Larger tensors stay shared. Biases, scales and relative-position tables of one head are smaller."""


def unshare_vectors(model: ir.Model) -> int:
    """Copy, in place, the small floating-point initializers that several operands read; returns how many copies."""
    graph, names = model.graph, Names(model)
    copies = 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        uses = [(node, index) for node, index in value.uses() if node.graph is graph]
        if tensor is None or len(uses) < 2 or tensor.nbytes > MAX_BYTES or tensor.size < 2:
            continue
        if value.is_graph_input() or value.is_graph_output() or not tensor.dtype.is_floating_point():
            continue
        for node, index in uses[1:]:
            copy = add_initializer(graph, names.fresh(value.name or "weight"), tensor.numpy())
            node.replace_input_with(index, copy)
            copies += 1
    return copies
