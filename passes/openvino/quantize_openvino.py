"""Q/DQ pairs for OpenVINO's CPU plugin: before the nodes that run in INT8, never behind them.

OpenVINO turns each QuantizeLinear into a FakeQuantize and fuses it into the kernel that computes its input, together
with the bias, the activation function and the addition of a quantized residual: ``Conv -> SiLU -> Q`` is one kernel
that writes bytes. So a pair on the output of every node, which onnxruntime needs, would only add roundings. Weights are
INT8 per output channel without a zero point, and biases stay float.

The addition of a residual is the exception: both of its operands are quantized. If only the residual is, OpenVINO moves
its scale behind the Add, and with fixed sizes the Add becomes a kernel of its own, which reads the convolution's result
as floats. With pairs on both, the convolution adds the bytes of the residual itself.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import dequantized_weight, insert_qdq, merge_equal_integers, naming, require_int8
from edgeprune.passes.openvino.activation_grids import Ranges, activation_grids
from edgeprune.passes.openvino.int8_nodes import int8_eligible
from edgeprune.passes.placement import operands, quantized_readers


def values_to_quantize(model: ir.Model, int8: Collection[str]) -> list[str]:
    """Names of the activations that are quantized if the named nodes are INT8; each of them needs a range."""
    return [str(value.name) for value in _readers(model, int8)]


def quantize_openvino(model: ir.Model, int8: Collection[str], ranges: Ranges, *, weight_bits: int = 8) -> ir.Model:
    """A copy of the model with Q/DQ pairs for the named nodes.

    Args:
        model: canonical, float32, opset 13 or newer.
        int8: names of eligible nodes.
        ranges: activation name -> observed (low, high), for all of `values_to_quantize`.
        weight_bits: 8, or 7 on CPUs without VNNI, whose uint8 x int8 sums saturate at 16 bits.

    Raises:
        PassError: a node is unknown or not eligible, a range is missing or not finite, or the opset is older than 13.
    """
    require_int8("quantize_openvino", model, int8, int8_eligible(model))
    copy = graphs.clone(model)
    readers = _readers(copy, int8)
    grids = activation_grids(copy.graph, readers, ranges)
    with naming(copy.graph):
        for node in [n for n in copy.graph if n.name in int8]:
            for weight, axis in operands(node).weights:
                dequantized_weight(copy, weight, axis, bits=weight_bits, consumers=[node])
        for value, nodes in readers.items():
            grid = grids[value]
            insert_qdq(copy, value, np.asarray(grid.scale, np.float32), grid.zero, grid.dtype, nodes)
    merge_equal_integers(copy.graph)
    return copy


def _readers(model: ir.Model, int8: Collection[str]) -> dict[ir.Value, list[ir.Node]]:
    """Activations to quantize, in graph order -> the nodes that read them quantized."""
    found = quantized_readers(model, int8)
    added = [node for nodes in found.values() for node in nodes if node.op_type == "Add"]
    for node in added:
        for value in node.inputs:
            if value is not None and node not in found.get(value, ()):
                found.setdefault(value, []).append(node)
    return found
