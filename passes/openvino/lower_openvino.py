"""Lower a float model to a graph that states every precision for OpenVINO's CPU plugin."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from edgeprune.passes.openvino.activation_grids import Ranges
from edgeprune.passes.openvino.float_precision import state_precision
from edgeprune.passes.openvino.quantize_openvino import quantize_openvino


def lower_openvino(
    model: ir.Model, int8: Collection[str], ranges: Ranges, *, float_precision: str, weight_bits: int = 8
) -> ir.Model:
    """A copy of the model with the named nodes in INT8 and all others in one float type.

    Args:
        model: canonical, float32.
        int8: names of eligible nodes; if there are any, the opset must be 13 or newer.
        ranges: activation name -> observed (low, high), for all of `values_to_quantize`.
        float_precision: fp32, bf16 or fp16.
        weight_bits: see `quantize_openvino`.

    Raises:
        PassError: see `quantize_openvino`.
    """
    if int8:
        model = quantize_openvino(model, int8, ranges, weight_bits=weight_bits)
    return state_precision(model, float_precision)
