"""Which nodes OpenVINO's CPU plugin runs in INT8: those whose inputs are quantized.

These are convolutions, also depthwise and grouped ones, and multiplications of matrices. All other nodes have no INT8
form of their own: pointwise nodes and the quantization behind them are fused into the kernel before, and OpenVINO moves
Q/DQ pairs through nodes that only move values (Concat, MaxPool, Reshape), which then move bytes.

Which of these nodes *should* run in INT8 is decided by prices and losses. Only nodes that compute no activations
(`edgeprune.graph.value_roles`) are refused here, because 8 bits say nothing about positions and scales.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.graph import Refused, is_op
from edgeprune.passes.placement import eligible_nodes, operands, rank_of

MATRIX_OPS = frozenset({"Gemm", "MatMul"})
COMPUTE_OPS = MATRIX_OPS | {"Conv"}


def int8_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node of the main graph, whether it may run in INT8, or why not."""
    return eligible_nodes(model, _eligible)


def _eligible(node: ir.Node) -> bool | Refused:
    if not is_op(node, *COMPUTE_OPS):
        return Refused(f"{node.op_type} has no INT8 form of its own in OpenVINO")
    found = operands(node)
    if not found.activations:
        return Refused("its inputs are constant")
    if any(v.dtype != ir.DataType.FLOAT for v in (*found.activations, *(w for w, _ in found.weights))):
        return Refused("its inputs are not float32")
    if node.op_type == "Conv":
        return bool(found.weights) or Refused("its weight is computed")
    return _matrix(node)


def _matrix(node: ir.Node) -> bool | Refused:
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None or a.const_value is not None:
        return Refused("its left operand is constant")
    if rank_of(a) < 2 or rank_of(b) < 2:
        return Refused("the shapes of its operands are unknown or have less than two axes")
    if b.const_value is not None and any(d != 1 for d in b.const_value.shape.numpy()[:-2]):
        return Refused("its weight has a batch axis, so its channels are not along one axis")
    scaled = any(node.attributes.get_float(name, 1.0) != 1 for name in ("alpha", "beta"))
    if node.op_type == "Gemm" and (scaled or bool(node.attributes.get_int("transA", 0)) or b.const_value is None):
        return Refused("its weight is computed, or its transA, alpha or beta is not the default")
    return True
