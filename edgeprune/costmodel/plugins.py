"""Plugins in a graph: EfficientNMS has a price from published engines that contain it, any other plugin has none."""

from __future__ import annotations

import math

import onnx_ir as ir

from edgeprune.costmodel.cost import latencies_us
from edgeprune.costmodel.kernel import Kernel
from edgeprune.costmodel.op_types import NMS_PLUGINS
from edgeprune.devices import Device
from edgeprune.graph import ONNX_DOMAINS, static_shape
from edgeprune.report import NOT_IN_TIME


def plugin_notes(model: ir.Model, device: Device, *, counted: bool) -> list[str]:
    """One sentence on each plugin of a graph: its price and where this comes from, or that it has none.

    Args:
        model: the graph.
        device: on which the plugins run.
        counted: whether the predicted time contains the plugins that have a price.
    """
    found = []
    for node in model.graph:
        if node.op_type in NMS_PLUGINS:
            us = _nms_us(node, device)
            price = "its shapes are not known" if us is None else f"about {us / 1e3:.2g} ms"
            ground = "from published times of engines that contain it"
            if counted and us is not None:
                found.append(f"{node.op_type} {node.name!r} is priced {ground}: {price}")
            else:
                found.append(f"{node.op_type} {node.name!r} {NOT_IN_TIME}: {price}, {ground}")
        elif node.domain not in ONNX_DOMAINS:
            counts = "counts as a copy" if counted else NOT_IN_TIME
            found.append(f"{node.op_type} {node.name!r} {counts}: nothing is known about this plugin")
    return found


def _nms_us(node: ir.Node, device: Device) -> float | None:
    shapes = [static_shape(value) if value is not None else None for value in node.inputs[:2]]
    if len(shapes) < 2 or any(shape is None or len(shape) < 3 for shape in shapes):
        return None
    boxes, scores = (shape for shape in shapes if shape is not None)
    anchors = boxes[0] * boxes[1]
    columns = math.prod(boxes[2:]) + math.prod(scores[2:])
    kernel = Kernel(
        str(node.name), (), "nms", "", "", 1, anchors, columns, 4, 1, float(anchors), 1.0, weighted=False
    )  # fmt: skip
    return float(latencies_us([kernel], ["fp16"], device)[0])
