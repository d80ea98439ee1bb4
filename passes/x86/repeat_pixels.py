"""Write nearest-neighbour upsampling by integer factors in INT8 as Concats, which copy contiguous memory.

onnxruntime computes an INT8 Resize element by element. With channels last, repeating every pixel of a row is a Concat
of the tensor with itself, and so is repeating every row. These two Concats copy contiguous memory and are ten times as
fast. onnxruntime's optimizer cancels the transpositions around them with those around its INT8 convolutions.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from edgeprune.graph import constant, input_at, is_op, new_initializer, replace_value, static_shape
from edgeprune.passes.x86.edits import insert

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_ROUNDING = {
    ("asymmetric", "floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
    ("pytorch_half_pixel", "round_prefer_floor"),
    ("pytorch_half_pixel", "round_prefer_ceil"),
}
"""Coordinate and rounding modes that repeat all pixels equally often, for all integer factors."""


def repeat_pixels(graph: ir.Graph, int8: Collection[str]) -> None:
    """Replace, in place, each named INT8 Resize that only repeats pixels."""
    for node in [n for n in graph if n.name in int8 and is_op(n, "Resize")]:
        factors = repetitions(node)
        if factors is not None:
            _replace(graph, node, *factors)


def repetitions(node: ir.Node) -> tuple[int, int] | None:
    """How often a Resize repeats every row and every column; None if it computes something else."""
    text, source = node.attributes.get_string, node.inputs[0]
    coordinates = text("coordinate_transformation_mode", "half_pixel")
    if text("mode", "nearest") != "nearest" or "axes" in node.attributes:
        return None
    if (coordinates, text("nearest_mode", "round_prefer_floor")) not in _ROUNDING:
        return None
    before, after = static_shape(source), static_shape(node.outputs[0])
    scales = constant(input_at(node, 2))
    if scales is not None and scales.size == 4:
        factors = tuple(float(s) for s in scales)
    elif before is not None and after is not None and len(before) == len(after) == 4:
        factors = tuple(b / a for a, b in zip(before, after, strict=True))
    else:
        return None
    if factors[:2] != (1, 1) or any(f < 1 or f != int(f) for f in factors):
        return None
    return int(factors[2]), int(factors[3])


def _replace(graph: ir.Graph, node: ir.Node, rows: int, columns: int) -> None:
    (quantize,) = node.outputs[0].consumers()
    assert node.inputs[0] is not None
    read = node.inputs[0].producer()
    assert read is not None
    quantized, name = read.inputs[0], str(node.name)
    assert quantized is not None

    def add(op: str, inputs: list[ir.Value], what: str, attributes: dict[str, object]) -> ir.Value:
        return insert(graph, node, op, inputs, f"{name}_{what}", attributes)

    source = add("Transpose", [quantized], "channels_last", {"perm": _CHANNELS_LAST})
    factors = new_initializer(graph, f"{name}_factors", np.array([1, rows, columns, 1], np.int64))
    lengths = add("Shape", [source], "lengths", {})
    wanted = add("Mul", [lengths, factors], "wanted", {})
    beside = add("Concat", [source] * columns, "columns", {"axis": 3}) if columns > 1 else source
    below = add("Concat", [beside] * rows, "rows", {"axis": 2}) if rows > 1 else beside
    shaped = add("Reshape", [below, wanted], "repeated", {})
    repeated = add("Transpose", [shaped], "channels_first", {"perm": _CHANNELS_FIRST})
    repeated.shape = node.outputs[0].shape
    replace_value(quantize.outputs[0], repeated)
    graph.remove([quantize, node], safe=True)
    last = repeated.producer()
    assert last is not None
    last.name = name
