"""Write a ConvTranspose whose kernel is as long as its stride as a 1x1 convolution and a pixel shuffle.

Every input pixel gives a tile of output pixels, and tiles do not overlap. So the node is a 1x1 convolution with one
channel for each output channel and position in the tile, for which there is an INT8 kernel, and a pixel shuffle. With
channels last, the shuffle copies whole rows of a tile.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    constant,
    input_at,
    ints_attribute,
    is_op,
    new_initializer,
    new_node,
)
from edgeprune.passes.x86.edits import insert, take_place

_CHANNELS_LAST, _CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_ROW_OF_TILE_FIRST = [0, 1, 3, 2, 4]


def tile_of(node: ir.Node) -> tuple[int, int] | None:
    """Rows and columns of the tile that a ConvTranspose makes of a pixel; None if tiles overlap or have gaps."""
    if not is_op(node, "ConvTranspose") or node.attributes.get_int("group", 1) != 1:
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
    """Replace a ConvTranspose with tiles by a 1x1 Conv of the same name, whose pixels have to be shuffled."""
    source, weight, bias = node.inputs[0], constant(input_at(node, 1)), constant(input_at(node, 2))
    assert source is not None
    assert weight is not None
    name = str(node.name)
    inputs, outputs, rows, columns = weight.shape
    # Channels are ordered by row of the tile, column, output.
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0)).reshape(-1, inputs, 1, 1)
    values = [source, new_initializer(graph, f"{name}_tile_weight", matrix)]
    if bias is not None:
        values.append(new_initializer(graph, f"{name}_tile_bias", np.tile(bias, rows * columns)))
    convolution = new_node(graph, "Conv", values, f"{name}_tiles", ir.DataType.FLOAT, {"kernel_shape": [1, 1]})
    # The shape after the shuffle: the DequantizeLinear behind takes it over.
    convolution.outputs[0].shape = node.outputs[0].shape
    take_place(graph, node, convolution)
    return Tiled(convolution, rows, columns, outputs)


def shuffle_pixels(graph: ir.Graph, tiled: Tiled) -> None:
    """Shuffle the pixels behind the QuantizeLinear; all nodes between it and the convolution are pointwise."""
    quantize = tiled.convolution
    while quantize.op_type != "QuantizeLinear":
        quantize.outputs[0].shape = None
        (quantize,) = quantize.outputs[0].consumers()
    quantized, name = quantize.outputs[0], tiled.convolution.name
    readers = tuple(quantized.uses())
    rows, columns, outputs = tiled.rows, tiled.columns, tiled.outputs

    def numbers(what: str, *values: int) -> ir.Value:
        return new_initializer(graph, f"{name}_{what}", np.array(values, np.int64))

    def add(op: str, inputs: list[ir.Value], what: str, perm: list[int] | None = None) -> ir.Value:
        return insert(graph, readers[0].node, op, inputs, f"{name}_{what}", None if perm is None else {"perm": perm})

    quantized.shape = None
    last = add("Transpose", [quantized], "channels_last", _CHANNELS_LAST)
    grown = add("Mul", [add("Shape", [last], "lengths"), numbers("factors", 1, rows, columns, 0)], "grown")
    wanted = add("Add", [grown, numbers("channels", 0, 0, 0, outputs)], "wanted")
    split = add("Reshape", [last, numbers("tiles", 0, 0, 0, rows, columns * outputs)], "split")
    moved = add("Transpose", [split], "moved", _ROW_OF_TILE_FIRST)
    shuffled = add("Reshape", [moved, wanted], "shuffled")
    first = add("Transpose", [shuffled], "channels_first", _CHANNELS_FIRST)
    for use in readers:
        use.node.replace_input_with(use.idx, first)
