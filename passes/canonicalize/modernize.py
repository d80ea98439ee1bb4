"""Convert a model of an old opset to opset 13, so that other passes and rules need one form of each operator.

ONNX's version converter does most of it; a few operators whose meaning it does not convert are corrected here.
"""

from __future__ import annotations

import logging

import numpy as np
import onnx_ir as ir

from edgeprune.errors import PassError
from edgeprune.graph import (
    Names,
    add_initializer,
    constant,
    convert_opset,
    dim_keys,
    has_subgraph,
    input_at,
    is_op,
)

logger = logging.getLogger(__name__)

OLDEST_OPSET = 13
"""The first opset with per-axis quantization, and with axes as inputs of Squeeze, Unsqueeze, Split and ReduceSum."""


def is_old(model: ir.Model) -> bool:
    """Whether a model's opset is older than 13."""
    return model.opset_imports.get("", OLDEST_OPSET) < OLDEST_OPSET


def modernize(model: ir.Model) -> ir.Model:
    """The same computation in opset 13 if the model is older and can be converted, else the model itself.

    Args:
        model: without functions; its shapes inferred, its constants initializers. It may be changed.
    """
    if not is_old(model):
        return model
    present = model.opset_imports[""]
    obstacle = _obstacle(model, present)
    if obstacle is not None:
        logger.info("left in opset %d: %s", present, obstacle)
        return model
    if present < 7:
        _align_slopes(model)
    nearest = {node.name: _nearest_mode(node) for node in model.graph if is_op(node, "Resize", "Upsample")}
    try:
        converted = convert_opset(model, OLDEST_OPSET)
    except PassError as error:
        logger.info("left in opset %d: %s", present, error)
        return model
    if present < 11:
        for node in converted.graph:
            if is_op(node, "Resize"):
                # Opset 10 sampled at corners; in opset 11 pixel centres became the default.
                modes = {"coordinate_transformation_mode": "asymmetric"}
                modes["nearest_mode"] = nearest.get(node.name) or "floor"
                node.attributes.update({name: ir.AttrString(name, mode) for name, mode in modes.items()})
    return converted


def restore_softmax(node: ir.Node) -> int:
    """Undo the converter's form of a Softmax of unknown rank: flatten, normalize, reshape back.

    If all axes but the last are flattened into one, that is a Softmax along the last axis. Returns the number of
    changes.
    """
    softmax = node.inputs[0].producer() if is_op(node, "Reshape") and node.inputs[0] is not None else None
    flatten = softmax.inputs[0].producer() if softmax is not None and softmax.inputs and softmax.inputs[0] else None
    shape = node.inputs[1].producer() if is_op(node, "Reshape") and node.inputs[1] is not None else None
    if softmax is None or flatten is None or shape is None or not is_op(softmax, "Softmax", "LogSoftmax"):
        return 0
    source = flatten.inputs[0]
    if not is_op(flatten, "Flatten") or not is_op(shape, "Shape") or source is None or shape.inputs[0] is not source:
        return 0
    if source.shape is None or flatten.attributes.get_int("axis", 1) != len(source.shape) - 1:
        return 0
    node.op_type = softmax.op_type
    node.resize_inputs(1)
    node.replace_input_with(0, source)
    node.attributes.clear()
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    return 1


def _obstacle(model: ir.Model, opset: int) -> str | None:
    """Why the converter would convert a model wrongly; None if it would not."""
    for node in model.graph:
        if has_subgraph(node):
            return f"node {node.name!r} has a body, which the converter does not convert"
        rank = len(node.inputs[0].shape) if node.inputs and node.inputs[0] and node.inputs[0].shape is not None else 0
        if is_op(node, "Hardmax") and (not rank or node.attributes.get_int("axis", 1) % rank != rank - 1):
            return f"Hardmax {node.name!r} works on several axes at once"
        if is_op(node, "Resize", "Upsample") and opset < 11 and _nearest_mode(node) is None:
            return f"{node.op_type} {node.name!r} has scales that are unknown, or enlarge one axis and shrink another"
        if is_op(node, "PRelu") and opset < 7 and (not rank or constant(input_at(node, 1)) is None):
            return f"PRelu {node.name!r} has a slope whose alignment is not known"
    return None


def _nearest_mode(node: ir.Node) -> str | None:
    """How opset 10 rounds: down if all axes grow, up if all shrink; None if neither."""
    attribute = node.attributes.get("scales")
    scales = np.asarray(attribute.as_floats()) if attribute is not None else constant(input_at(node, 1))
    if scales is None:
        return None
    if (scales >= 1).all():
        return "floor"
    return "ceil" if (scales <= 1).all() else None


def _align_slopes(model: ir.Model) -> None:
    """Before opset 7 the slopes of a PRelu were along the channels; since then they broadcast from the right."""
    names = Names(model)
    for node in model.graph:
        slope, dims = constant(input_at(node, 1)), dim_keys(node.inputs[0]) if node.inputs else None
        if is_op(node, "PRelu") and slope is not None and slope.size > 1 and slope.ndim == 1 and dims is not None:
            aligned = slope.reshape(-1, *(1,) * (len(dims) - 2))
            node.replace_input_with(1, add_initializer(model.graph, names.fresh(f"{node.name}_slope"), aligned))
