"""Leave out clips that INT8 does anyway: quantizing a value to a range cuts off what lies outside it.

A model that arrived quantized has a Clip at every range that it was trained with, so that it computes the same in
float. Where the value is quantized to that range, the Clip would be one kernel more for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.graph import constant, input_at, is_op, replace_value

Bounds = Mapping[str, tuple[float, float]]


def relax_clips(
    model: ir.Model, int8: Collection[str], ranges: Bounds, *, symmetric: bool
) -> tuple[ir.Model, frozenset[str], dict[str, tuple[float, float]]]:
    """A copy in which such a Clip is left out, or is a Relu if its range is only open below.

    Args:
        model: float, with Clips.
        int8: names of the nodes that will be INT8.
        ranges: activation name -> (low, high) to which it will be quantized.
        symmetric: whether quantized values are signed, with zero point 0.

    Returns:
        The model, the INT8 nodes that are left, and the ranges, of which that of a Clip's result is now its input's.
    """
    if not any(_has_range(node, ranges) for node in model.graph):
        return model, frozenset(int8), dict(ranges)
    copy, found = graphs.clone(model), dict(ranges)
    for node in list(copy.graph):
        source, output = node.inputs[0] if node.inputs else None, node.outputs[0]
        if source is None or not _has_range(node, found) or output.is_graph_output():
            continue
        low, high = found[str(output.name)]
        if found.get(str(source.name), (low, high)) != (low, high):
            continue
        if any(reader.name not in int8 for reader in output.consumers()):
            continue
        lowest, highest = (constant(input_at(node, k)) for k in (1, 2))
        step = 1.01 * (high - low) / 255  # a signed range has one step more below zero than above it
        least = low * 128 / 127 if symmetric else low
        above = highest is None or high <= float(highest) + step
        if above and (lowest is None or least >= float(lowest) - step):
            found[str(source.name)] = found[str(output.name)]
            replace_value(output, source)
            copy.graph.remove(node, safe=True)
        elif above and lowest is not None and not np.any(lowest):
            node.op_type = "Relu"
            node.resize_inputs(1)
    graphs.remove_dead(copy.graph)
    return copy, frozenset(int8) & {str(node.name) for node in copy.graph}, found


def _has_range(node: ir.Node, ranges: Bounds) -> bool:
    return is_op(node, "Clip") and str(node.outputs[0].name) in ranges
