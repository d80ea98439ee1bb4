"""Remove the Clips of trained ranges that calibration data never reaches: most ranges only hold what was seen.

A Clip between a convolution and an Add keeps a runtime from fusing the two. Ranges that training relies on are reached,
and their Clips stay. A range of a value is then kept under the name of the value before the Clip.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.graph import constant, input_at, is_op, replace_value
from edgeprune.quantization import extremes

ITEMS = 64
"""Samples on which the values before the Clips are looked at."""

BEYOND = 0.1
"""A value may exceed its range by this share of it: a few rare outliers are not what training relies on."""


def drop_idle_clips(
    model: ir.Model, ranges: Mapping[str, tuple[float, float]], data: Calibration, threads: int
) -> tuple[ir.Model, dict[str, tuple[float, float]]]:
    """A copy without idle Clips, and the ranges under the names that are left; a Clip idle above alone is a Relu.

    Args:
        model: canonical; not changed.
        ranges: name of an activation -> (low, high). Only Clips with a result among them are looked at.
        data: calibration data; with random data every Clip stays.
        threads: of onnxruntime.
    """
    copy, found = graphs.clone(model), dict(ranges)
    clips = [n for n in copy.graph if is_op(n, "Clip") and str(n.outputs[0].name) in ranges]
    names = [str(n.inputs[0].name) for n in clips if n.inputs[0] is not None and n.inputs[0].producer() is not None]
    if data.is_random or not clips:
        return copy, found
    few = data.subset(ITEMS)
    seen = extremes(IntermediateOutputs(copy, names, threads), few.batches()) if names else {}
    for feeds in few.batches():
        for name, array in feeds.items():
            low, high = seen.get(name, (np.inf, -np.inf))
            seen[name] = min(low, float(array.min())), max(high, float(array.max()))
    for node in clips:
        source, output = node.inputs[0], node.outputs[0]
        if source is None or str(source.name) not in seen or output.is_graph_output():
            continue
        low, high = found[str(output.name)]
        lowest, highest = seen[str(source.name)]
        slack = BEYOND * (high - low)
        bounds = [constant(input_at(node, k)) for k in (1, 2)]
        idle_above = bounds[1] is None or highest <= high + slack
        if idle_above and (bounds[0] is None or lowest >= low - (slack if low < 0 else 0)):
            if found.get(str(source.name), (low, high)) == (low, high) and replace_value(output, source):
                found[str(source.name)] = found.pop(str(output.name))
                copy.graph.remove(node, safe=True)
        elif idle_above and bounds[0] is not None and not np.any(bounds[0]):
            node.op_type = "Relu"
            node.resize_inputs(1)
    graphs.remove_dead(copy.graph)
    return copy, found
