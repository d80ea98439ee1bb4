"""Which activations are quantized for a choice of INT8 nodes, and who reads them quantized."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeprune.passes.placement.operands import operands
from edgeprune.passes.placement.residual_inputs import residual_inputs


def quantized_readers(model: ir.Model, int8: Collection[str]) -> dict[ir.Value, list[ir.Node]]:
    """Activations to quantize, in graph order -> the nodes that read them quantized."""
    nodes = [node for node in model.graph if node.name in int8]
    found: dict[ir.Value, list[ir.Node]] = {}
    for node in nodes:
        for value in operands(node).activations:
            if node not in found.setdefault(value, []):
                found[value].append(node)
    for add, value in residual_inputs(nodes):
        found.setdefault(value, []).append(add)
    return found
