"""A ConvTranspose whose kernel is as long as its stride: every input pixel makes a tile of its own.

So it is a 1x1 convolution to one channel for each output channel and place in the tile, which has an integer kernel,
and a move of pixels. With channels last, what is moved are runs of whole rows of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    constant,
    input_at,
    int_attribute,
    ints_attribute,
    is_op,
    new_initializer,
    new_node,
    replace_value,
)

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_ROW_OF_TILE_FIRST = [0, 1, 3, 2, 4]


def tile_of(node: ir.Node) -> tuple[int, int] | None:
    """Rows and columns of the tile that a ConvTranspose makes of a pixel; None if tiles overlap, or it does more."""
    if not is_op(node, "ConvTranspose") or int_attribute(node, "group", 1) != 1:
        return None
    weight, bias = constant(input_at(node, 1)), input_at(node, 2)
    if weight is None or weight.ndim != 4 or (bias is not None and constant(bias) is None):
        return None
    rows, columns = weight.shape[2:]
    plain = {"dilations": (1, 1), "strides": (1, 1), "pads": (0, 0, 0, 0), "output_padding": (0, 0)}
    given = {name: ints_attribute(node, name) or usual for name, usual in plain.items()}
    padding = node.attributes.get_string("auto_pad", "NOTSET")
    if "output_shape" in node.attributes or padding not in ("NOTSET", "VALID"):
        return None
    return (rows, columns) if given == plain | {"strides": (rows, columns)} else None


@dataclass(frozen=True, eq=False)
class Tiled:
    """A Conv that gives, for every pixel, the ``outputs`` channels of each of ``rows`` x ``columns`` pixels."""

    convolution: ir.Node
    rows: int
    columns: int
    outputs: int


def as_convolution(graph: ir.Graph, node: ir.Node) -> Tiled:
    """Put a 1x1 Conv in the place, and under the name, of a ConvTranspose with tiles; its pixels are to be shuffled."""
    source, weight, bias = node.inputs[0], constant(input_at(node, 1)), constant(input_at(node, 2))
    assert source is not None
    assert weight is not None
    name, out = str(node.name), str(node.outputs[0].name)
    inputs, outputs, rows, columns = weight.shape
    # Channels are ordered row of the tile, column, output.
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, inputs, 1, 1)
    values = [source, new_initializer(graph, f"{name}_tile_weight", matrix)]
    if bias is not None:
        values.append(new_initializer(graph, f"{name}_tile_bias", np.tile(bias, rows * columns)))
    convolution = new_node(graph, "Conv", values, f"{name}_tiles", ir.DataType.FLOAT, {"kernel_shape": [1, 1]})
    # The shape that the result has once its pixels are shuffled: what dequantizes it takes it over.
    convolution.outputs[0].shape = node.outputs[0].shape
    graph.insert_before(node, convolution)
    replace_value(node.outputs[0], convolution.outputs[0])
    graph.remove(node, safe=True)
    convolution.name, convolution.outputs[0].name = name, out
    return Tiled(convolution, rows, columns, outputs)


def shuffle_pixels(graph: ir.Graph, tiled: Tiled) -> None:
    """Move the pixels to their places once they are integers; what lies before is pointwise and does not mind."""
    quantize = tiled.convolution
    while quantize.op_type != "QuantizeLinear":
        quantize.outputs[0].shape = None
        (quantize,) = quantize.outputs[0].consumers()
    integers, name = quantize.outputs[0], tiled.convolution.name
    readers = tuple(integers.uses())
    rows, columns, outputs = tiled.rows, tiled.columns, tiled.outputs

    def numbers(what: str, *values: int) -> ir.Value:
        return new_initializer(graph, f"{name}_{what}", np.array(values, np.int64))

    def add(op: str, inputs: list[ir.Value], what: str, perm: list[int] | None = None) -> ir.Value:
        kind = ir.DataType.INT64 if op == "Shape" else inputs[0].dtype or ir.DataType.UINT8
        made = new_node(graph, op, inputs, f"{name}_{what}", kind, None if perm is None else {"perm": perm})
        made.outputs[0].shape = None
        graph.insert_before(readers[0].node, made)
        value: ir.Value = made.outputs[0]
        return value

    integers.shape = None
    last = add("Transpose", [integers], "channels_last", _CHANNELS_LAST)
    grown = add("Mul", [add("Shape", [last], "lengths"), numbers("factors", 1, rows, columns, 0)], "grown")
    wanted = add("Add", [grown, numbers("channels", 0, 0, 0, outputs)], "wanted")
    split = add("Reshape", [last, numbers("tiles", 0, 0, 0, rows, columns * outputs)], "split")
    moved = add("Transpose", [split], "moved", _ROW_OF_TILE_FIRST)
    shuffled = add("Reshape", [moved, wanted], "shuffled")
    first = add("Transpose", [shuffled], "channels_first", _CHANNELS_FIRST)
    for use in readers:
        use.node.replace_input_with(use.idx, first)
