"""The type in which the float layers of a model are computed, stated in the metadata of the model.

OpenVINO computes all float layers of a model in one type, whatever the types of its tensors. So it is a property of the
model, and the Q/DQ pairs of the graph say which layers are in INT8 instead.
"""

from __future__ import annotations

import onnx_ir as ir

from edgeprune import graph as graphs

STATED_PRECISION = "edgeprune.float_precision"
"""Key in the metadata of an ONNX model, and in the ``rt_info`` of an OpenVINO one: fp32, bf16 or fp16."""


def state_precision(model: ir.Model, precision: str) -> ir.Model:
    """A copy of the model that states the type of its float layers."""
    copy = graphs.clone(model)
    copy.metadata_props[STATED_PRECISION] = precision
    return copy
