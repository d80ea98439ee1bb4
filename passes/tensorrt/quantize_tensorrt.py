"""Explicit INT8 quantization for TensorRT: symmetric Q/DQ pairs on a float32 graph, placed as its builder needs them.

Activations are int8 per tensor and weights int8 per channel, with zero point 0; biases stay float.
`edgeprune.passes.tensorrt.int8_nodes` tells which nodes may be INT8. Here the pairs are placed around the nodes that a
plan chose, by three rules. The inputs of a node are quantized, never its output. If a convolution's result is added to
a residual, the residual is quantized too, so that one kernel does both. Quantized values that meet in a Concat share
one scale, so that nothing is requantized.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import PassError
from edgeprune.graph import (
    dequantized_weight,
    insert_qdq,
    merge_equal_integers,
    naming,
    require_int8,
    symmetric_scale,
)
from edgeprune.passes.placement import operands, quantized_readers, residual_inputs, shared_scales
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible

_CLIPS = frozenset({"Clip", "Relu"})


def values_to_quantize(model: ir.Model, int8: Collection[str]) -> list[str]:
    """Names of the activations that are quantized if the named nodes are INT8; each of them needs a range."""
    return [str(value.name) for value in quantized_readers(model, int8)]


def read_only_quantized(model: ir.Model, int8: Collection[str]) -> set[str]:
    """Names of the INT8 nodes whose result is only read quantized.

    A Relu, a Clip or the addition of a quantized residual behind such a node is included: one kernel computes all.
    """
    readers = quantized_readers(model, int8)
    nodes = [node for node in model.graph if node.name in int8]
    residuals = dict(residual_inputs(nodes))
    found: set[str] = set()
    for node in nodes:
        chain, value = [node], node.outputs[0]
        while len(value.consumers()) == 1 and not value.is_graph_output():
            (after,) = value.consumers()
            if after.op_type not in _CLIPS and residuals.get(after, value) is value:
                break
            chain.append(after)
            value = after.outputs[0]
        consumers = set(value.consumers())
        if consumers and consumers <= set(readers.get(value, ())) and not value.is_graph_output():
            found.update(str(n.name) for n in chain)
    return found


def quantize_tensorrt(
    model: ir.Model,
    int8: Collection[str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    half: Collection[str] = (),
    stored: bool = True,
) -> ir.Model:
    """A copy of the model with Q/DQ pairs for the named nodes; all float types are still float32.

    Args:
        model: canonical, float32, opset 13 or newer.
        int8: names of eligible nodes.
        ranges: activation name -> observed (low, high), for all of `values_to_quantize`.
        half: nodes that will compute in float16. The scales of their inputs and outputs are exact in float16, and they
            share no pair with other nodes.
        stored: whether weights are stored as int8; see `edgeprune.graph.qdq.dequantized_weight`.

    Raises:
        PassError: a node is unknown or not eligible, a range is missing or not finite, or the opset is older than 13.
    """
    require_int8("quantize_tensorrt", model, int8, int8_eligible(model))
    copy = graphs.clone(model)
    readers = quantized_readers(copy, int8)
    limits = _limits(copy.graph, readers, ranges)
    halves = {node for node in copy.graph if node.name in half}
    with naming(copy.graph):
        for node in [n for n in copy.graph if n.name in int8]:
            for weight, axis in operands(node).weights:
                rounded = np.float16 if node in halves else np.float32
                dequantized_weight(
                    copy, weight, axis, scale_dtype=rounded, float_dtype=np.float32, stored=stored, consumers=[node]
                )
        for value, nodes in readers.items():
            for group, rounded in (
                ([n for n in nodes if n in halves], np.float16),
                # The Q of a float16 value has a float16 scale, and the DQ must have exactly the same.
                ([n for n in nodes if n not in halves], np.float16 if value.producer() in halves else np.float32),
            ):
                if group:
                    scale = symmetric_scale(-limits[value], limits[value], dtype=rounded)
                    insert_qdq(copy, value, scale.astype(np.float32), consumers=group)
    merge_equal_integers(copy.graph)
    return copy


def _limits(
    graph: ir.Graph, quantized: Collection[ir.Value], ranges: Mapping[str, tuple[float, float]]
) -> dict[ir.Value, float]:
    """The largest magnitude that INT8 has to represent for each value; values that a Concat joins share it."""
    limits: dict[ir.Value, float] = {}
    for value in quantized:
        if str(value.name) not in ranges:
            raise PassError(f"quantize_tensorrt: no range is given for {value.name!r}")
        low, high = ranges[str(value.name)]
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise PassError(f"quantize_tensorrt: the range of {value.name!r} is ({low}, {high})")
        limits[value] = max(abs(low), abs(high))
    for group in shared_scales(graph, quantized):
        widest = max(limits[value] for value in group)
        limits.update(dict.fromkeys(group, widest))
    return limits
