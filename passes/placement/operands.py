"""The inputs of an INT8 node that are quantized: its activations per tensor, its weights per output channel."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
"""These read one activation and no weight."""


@dataclass(frozen=True)
class Operands:
    """The inputs of a node to quantize: activations per tensor, weights per channel (value, axis)."""

    activations: tuple[ir.Value, ...]
    weights: tuple[tuple[ir.Value, int], ...]


def operands(node: ir.Node) -> Operands:
    """The inputs of an eligible node to quantize."""
    data = [value for value in node.inputs[: 1 if node.op_type in POOLS else 2] if value is not None]
    weights = [(value, weight_axis(node)) for value in data if value.const_value is not None]
    return Operands(tuple(v for v in data if v.const_value is None), tuple(weights))


def weight_axis(node: ir.Node) -> int:
    """The output-channel axis of a node's weight."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return rank_of(node.inputs[1]) - 1


def rank_of(value: ir.Value | None) -> int:
    """Number of axes; 0 if it is not known."""
    return 0 if value is None or value.shape is None else value.shape.rank()
