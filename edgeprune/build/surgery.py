"""Graph surgery before an engine is built: a user's function, or a built-in one, on an onnx-graphsurgeon graph.

``file.py:function`` receives the lowered graph. It may change the graph in place or return another one, and it may use
plugin nodes that only TensorRT knows. ``efficient-nms`` appends TensorRT's EfficientNMS plugin to a YOLO detection
head. Only code that the user names runs; no code of a model file is ever executed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgeprune import graph as graphs
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.support import describe_failure, is_function_spec, load_function

EFFICIENT_NMS = "efficient-nms"
_SETTINGS = {"score": 0.25, "iou": 0.45, "boxes": 100.0, "classes": 0.0}
_END_TO_END_ROWS = 1000
"""Up to this many rows of six numbers are final detections, not anchors of a one-class model."""


def surgeon(spec: str | None) -> Callable[[ir.Model], ir.Model]:
    """The surgery of a specification, as a function of the lowered model; None changes nothing.

    Raises:
        UsageError: the specification is not valid, or it names no function that can be loaded.
        BackendError: onnx-graphsurgeon is not installed.
    """
    if spec is None:
        return lambda model: model
    check_spec(spec)
    return lambda model: operate(model, spec)


def operate(model: ir.Model, spec: str) -> ir.Model:
    """The model after surgery.

    Args:
        model: not changed.
        spec: ``file.py:function``, or ``efficient-nms``, optionally with settings as in
            ``efficient-nms:score=0.25,iou=0.45,boxes=100,classes=80``.

    Raises:
        UsageError: the specification, the file, the function or its result is not valid.
        ModelError: EfficientNMS does not fit the head, or the changed graph is not valid.
        BackendError: onnx-graphsurgeon is not installed.
    """
    check_spec(spec)
    import onnx_graphsurgeon as gs

    graph = gs.import_onnx(ir.to_proto(model))
    if is_function_spec(spec):
        function = load_function(spec, UsageError)
        try:
            returned = function(graph)
        except Exception as error:
            raise UsageError(f"--surgery {spec}: {describe_failure(error)}") from error
        graph = graph if returned is None else returned
        if not isinstance(graph, gs.Graph):
            raise UsageError(f"--surgery {spec}: returned a {type(graph).__name__}, not an onnx_graphsurgeon.Graph")
    else:
        append_efficient_nms(graph, **_settings(spec))
    return _valid(graph.cleanup().toposort(), spec)


def check_spec(spec: str) -> None:
    """Check a specification before any work is done.

    Raises:
        UsageError: the specification is not valid, or it names no function that can be loaded.
        BackendError: onnx-graphsurgeon is not installed.
    """
    if importlib.util.find_spec("onnx_graphsurgeon") is None:
        raise BackendError("--surgery needs onnx-graphsurgeon; pip install 'edgeprune[surgery]'")
    if is_function_spec(spec):
        load_function(spec, UsageError)
    elif spec == EFFICIENT_NMS or spec.startswith(f"{EFFICIENT_NMS}:"):
        _settings(spec)
    else:
        raise UsageError(f"--surgery {spec!r}: expected file.py:function or {EFFICIENT_NMS}")


def append_efficient_nms(graph: Any, *, score: float, iou: float, boxes: int, classes: int = 0) -> None:
    """Replace a detector's output by the four outputs of EfficientNMS: num_dets, det_boxes, det_scores, det_classes.

    Two heads are known: (batch, 4 + classes, anchors) with decoded centre-size boxes and class probabilities (YOLOv8,
    9, 11, 12), and (batch, anchors, 5 + classes) with an objectness in between (YOLOv5, 7).

    Args:
        graph: an onnx_graphsurgeon graph, changed in place.
        score: lowest score of a detection.
        iou: overlap above which the box with the lower score is removed.
        boxes: most detections per image.
        classes: required number of classes; 0 takes the number from the shape.

    Raises:
        ModelError: the graph has no such head; pose and segmentation heads contain more than boxes and classes.
    """
    import onnx_graphsurgeon as gs

    if len(graph.outputs) != 1 or graph.outputs[0].shape is None or len(graph.outputs[0].shape) != 3:
        raise ModelError(f"{EFFICIENT_NMS} needs a detector with one output of three axes, boxes and classes together")
    head = graph.outputs[0]
    batch, rows, columns = head.shape
    if not (isinstance(rows, int) and isinstance(columns, int)):
        raise ModelError(
            f"{EFFICIENT_NMS} needs a fixed number of anchors: export the model with fixed sizes of its inputs"
        )
    if columns == 6 and rows <= _END_TO_END_ROWS:
        raise ModelError(f"{head.name!r} has final detections already: this head needs no {EFFICIENT_NMS}")
    objectness = rows > columns
    anchors, found = (rows, columns - 5) if objectness else (columns, rows - 4)
    if found < 1 or (classes and classes != found):
        raise ModelError(
            f"{head.name!r} of shape {head.shape} has room for {found} classes, not for {classes or 'any'}"
        )

    def node(op: str, inputs: list[Any], name: str, shape: tuple[Any, ...], **attributes: Any) -> Any:
        output = gs.Variable(f"{EFFICIENT_NMS}/{name}", dtype=np.float32, shape=shape)
        graph.nodes.append(gs.Node(op, f"{EFFICIENT_NMS}/{name}/{op}", attributes, inputs, [output]))
        return output

    def part(start: int, stop: int, name: str) -> Any:
        bounds = [np.array([value], np.int64) for value in (start, stop, 2)]
        constants = [gs.Constant(f"{EFFICIENT_NMS}/{name}/{i}", value) for i, value in enumerate(bounds)]
        return node("Slice", [rowwise, *constants], name, (batch, anchors, stop - start))

    rowwise = head if objectness else node("Transpose", [head], "rows", (batch, anchors, rows), perm=[0, 2, 1])
    scores = part(5 if objectness else 4, (5 if objectness else 4) + found, "classes")
    if objectness:
        scores = node("Mul", [scores, part(4, 5, "objectness")], "scores", (batch, anchors, found))
    outputs = [
        gs.Variable("num_dets", np.int32, (batch, 1)),
        gs.Variable("det_boxes", np.float32, (batch, boxes, 4)),
        gs.Variable("det_scores", np.float32, (batch, boxes)),
        gs.Variable("det_classes", np.int32, (batch, boxes)),
    ]
    settings = {
        "plugin_version": "1",
        "background_class": -1,
        "max_output_boxes": boxes,
        "score_threshold": float(score),
        "iou_threshold": float(iou),
        "score_activation": 0,
        "box_coding": 1,
        "class_agnostic": 0,
    }
    nms = gs.Node("EfficientNMS_TRT", EFFICIENT_NMS, settings, [part(0, 4, "boxes"), scores], outputs, domain="TRT")
    graph.nodes.append(nms)
    graph.outputs = outputs


def _settings(spec: str) -> dict[str, Any]:
    settings = dict(_SETTINGS)
    for item in filter(None, spec.partition(":")[2].split(",")):
        name, _, text = item.partition("=")
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if name not in settings or value < 0 or (name in ("score", "iou") and value > 1):
            raise UsageError(
                f"--surgery {spec!r}: {item!r} is no setting; example: score=0.25,iou=0.45,boxes=100,classes=80"
            )
        settings[name] = value
    if settings["boxes"] < 1:
        raise UsageError(f"--surgery {spec!r}: at least one box must be allowed")
    return {**settings, "boxes": int(settings["boxes"]), "classes": int(settings["classes"])}


def _valid(graph: Any, spec: str) -> ir.Model:
    import onnx_graphsurgeon as gs

    try:
        proto = gs.export_onnx(graph)
        known = {imported.domain for imported in proto.opset_import}
        for domain in {node.domain for node in proto.graph.node} - known:
            if domain not in ("", "ai.onnx"):
                proto.opset_import.append(onnx.helper.make_opsetid(domain, 1))
        model: ir.Model = ir.from_proto(proto)
        graphs.check(model)
    except (ModelError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ModelError(
            f"--surgery {spec}: the graph is no valid model afterwards: {describe_failure(error)}"
        ) from error
    return model
