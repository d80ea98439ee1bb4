"""Q/DQ nodes of models that are already quantized: axes pass; scales and zero points follow their axis."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, Zeros, rule
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.errors import RuleError


def _relation(n: NodeView, zeros: Zeros | None) -> Rel:
    if n.attr("block_size", 0):
        return _blocked(n, zeros)
    rank = n.rank(0)
    k = n.axis(n.attr("axis", 1), rank) if rank and n.rank(1) == 1 and n.shape(1) != (1,) else -1
    scale = {0: "", 1: f"a{k}" if k >= 0 else "1"}.get(n.rank(1))
    if scale is None:
        raise RuleError("its scale has more than one axis")
    terms = [axes(rank), scale]
    if n.inputs > 2:
        terms.append(scale if n.has(2) and n.rank(2) == n.rank(1) else ".")
    return Rel(f"{', '.join(terms)} -> {axes(rank)}", zeros=zeros)


def _blocked(n: NodeView, zeros: Zeros | None) -> Rel:
    """One scale for every ``z`` positions of an axis: whole blocks can be removed, if all blocks are whole."""
    rank, block = n.rank(0), n.attr("block_size")
    k = n.axis(n.attr("axis", 1), rank)
    whole = n.size(1, k) * block == n.size(0, k)
    data, scale = axes(rank, {k: "(b !z)" if whole else "!b"}), axes(rank, {k: "b" if whole else "!s"})
    terms = [data, scale] + [scale if n.has(2) else "."] * (n.inputs > 2)
    why = "a block of positions that share a scale" if whole else "its last block of scales is not whole"
    return Rel(f"{', '.join(terms)} -> {data}", {"z": block} if whole else {}, zeros=zeros, why=why)


@rule("QuantizeLinear")
def quantize(n: NodeView) -> Rel:
    """Zero becomes the zero point, which DequantizeLinear turns back into zero."""
    return _relation(n, LINEAR)


@rule("DequantizeLinear")
def dequantize(n: NodeView) -> Rel:
    """Zero where a symmetric operand is zero, or the input of a QuantizeLinear before it with the same zero point."""
    zero_point = n.const(2) if n.has(2) else np.zeros(1)
    if zero_point is not None and not np.any(zero_point.astype(np.float64)):
        return _relation(n, LINEAR)
    return _relation(n, LINEAR if _same_zero_point(n.node) else ((1,),))


def _same_zero_point(node: ir.Node) -> bool:
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return (
        before is not None
        and before.op_type == "QuantizeLinear"
        and len(before.inputs) > 2
        and len(node.inputs) > 2
        and before.inputs[2] is node.inputs[2]
    )
