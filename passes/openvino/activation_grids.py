"""The INT8 grid of every activation for OpenVINO's CPU plugin: type, scale and zero point.

Convolutions read UINT8 with a zero point at no cost. A multiplication of matrices reads a zero point in a kernel of its
own that subtracts it, so values below zero that one of these reads are INT8 around zero. Values that meet in a Concat
have one grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.errors import PassError
from edgeprune.graph import asymmetric_scale, symmetric_scale
from edgeprune.passes.openvino.int8_nodes import MATRIX_OPS
from edgeprune.passes.placement import shared_scales

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Grid:
    """``real = (quantized - zero) * scale``."""

    scale: float
    zero: int
    dtype: ir.DataType


def activation_grids(
    graph: ir.Graph, readers: Mapping[ir.Value, Sequence[ir.Node]], ranges: Ranges
) -> dict[ir.Value, Grid]:
    """The grid of each quantized activation.

    Args:
        graph: the graph.
        readers: activation -> the nodes that read it quantized.
        ranges: activation name -> (low, high).

    Raises:
        PassError: a range is missing or not finite.
    """
    spans = {value: _span(value, ranges) for value in readers}
    signed = {value: any(n.op_type in MATRIX_OPS for n in nodes) for value, nodes in readers.items()}
    for group in shared_scales(graph, readers):
        low, high = min(spans[v][0] for v in group), max(spans[v][1] for v in group)
        spans.update(dict.fromkeys(group, (low, high)))
        signed.update(dict.fromkeys(group, any(signed[v] for v in group)))
    return {value: _grid(*spans[value], signed[value]) for value in readers}


def _span(value: ir.Value, ranges: Ranges) -> tuple[float, float]:
    if str(value.name) not in ranges:
        raise PassError(f"quantize_openvino: no range is given for {value.name!r}")
    low, high = ranges[str(value.name)]
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise PassError(f"quantize_openvino: the range of {value.name!r} is ({low}, {high})")
    return low, high


def _grid(low: float, high: float, signed: bool) -> Grid:
    if signed and low < 0:
        return Grid(float(symmetric_scale(low, high)), 0, ir.DataType.INT8)
    scale, zero = asymmetric_scale(low, high)
    return Grid(float(scale), int(zero), ir.DataType.UINT8)
