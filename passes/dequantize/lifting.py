"""The state of one lifting: for every quantized value of a graph the float value that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.graph import constant, input_at, new_initializer, new_node

INTEGERS = frozenset(
    {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT4, ir.DataType.UINT4}
    | {ir.DataType.FLOAT8E4M3FN, ir.DataType.FLOAT8E5M2, ir.DataType.INT2, ir.DataType.UINT2}
)
"""Types of quantized activations and weights; biases are INT32."""


class LiftError(PassError):
    """A node whose float form is not known; the text names it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """The scale and zero point of a quantized value: ``real = (quantized - zero) * scale``.

    Attributes:
        scale: of shape () or (channels,).
        zero: as ``scale``; of any integer type.
        scale_value, zero_value: the constants of the graph; the zero point may be absent, which means 0.
    """

    scale: NDArray[Any]
    zero: NDArray[Any]
    scale_value: ir.Value
    zero_value: ir.Value | None

    def equals(self, other: Grid) -> bool:
        """Whether quantized values mean the same on both grids."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)


@dataclass(eq=False)
class Lifting:
    """The float values that were found so far, in one graph that is changed in place.

    Attributes:
        graph: the main graph.
        floats: quantized value -> float value; with the grid on which the integers stand.
        moving: quantized value of a DynamicQuantizeLinear -> its float input, its scale and its zero point.
    """

    graph: ir.Graph
    floats: dict[ir.Value, tuple[ir.Value, Grid]] = field(default_factory=dict)
    moving: dict[ir.Value, ir.Value] = field(default_factory=dict)
    scales: dict[ir.Value, ir.Value] = field(default_factory=dict)
    _weights: dict[tuple[ir.Value, ir.Value, int, int], ir.Value] = field(default_factory=dict)

    def knows(self, value: ir.Value | None) -> bool:
        """Whether a value is a quantized activation that was lifted."""
        return value is not None and (value in self.floats or value in self.moving)

    def grid(self, node: ir.Node, scale: int, zero: int) -> Grid:
        """The grid in two inputs of a node.

        Raises:
            LiftError: it is not constant.
        """
        scale_value, zero_value = input_at(node, scale), input_at(node, zero)
        array, zeros = constant(scale_value), constant(zero_value)
        if array is None or scale_value is None or (zero_value is not None and zeros is None):
            raise LiftError(f"the scale of {node.op_type} {node.name!r} is computed")
        array = array.astype(np.float64)
        array = array.reshape(()) if array.size == 1 else array
        found = np.zeros(array.shape) if zeros is None else zeros.astype(np.float64)
        return Grid(array, found.reshape(array.shape) if found.size == array.size else found, scale_value, zero_value)

    def add(self, node: ir.Node, op: str, inputs: list[ir.Value], name: str, attributes: dict[str, Any]) -> ir.Value:
        """Insert a float32 node before ``node``; returns its output."""
        made = new_node(self.graph, op, inputs, name, ir.DataType.FLOAT, attributes)
        made.outputs[0].shape = None
        self.graph.insert_before(node, made)
        output: ir.Value = made.outputs[0]
        return output

    def read(self, node: ir.Node, value: ir.Value | None, grid: Grid, axis: int = 1, block: int = 0) -> ir.Value:
        """The float value of a quantized operand of ``node``, read on ``grid``.

        Raises:
            LiftError: nothing is known of the operand.
        """
        if value is None:
            raise LiftError(f"{node.op_type} {node.name!r} lacks an operand")
        array = constant(value)
        if array is not None:
            key = value, grid.scale_value, axis, block
            if key not in self._weights:
                floats = dequantized(array, grid, axis, block)
                name = str(value.name).removesuffix("_quantized")
                self._weights[key] = new_initializer(
                    self.graph, f"{name}_float" if name == value.name else name, floats
                )
            return self._weights[key]
        if value.is_graph_input():
            if value not in self.floats:
                inputs = [value, grid.scale_value, *([] if grid.zero_value is None else [grid.zero_value])]
                self.floats[value] = self.add(node, "DequantizeLinear", inputs, f"{value.name}_float", {}), grid
        elif value not in self.floats:
            raise LiftError(f"{node.op_type} {node.name!r} reads {value.name!r}, whose float form is not known")
        found, own = self.floats[value]
        if own.equals(grid):
            return found
        # The same integers on another grid: an affine function of what they were.
        if own.scale.ndim or grid.scale.ndim:
            raise LiftError(f"{node.op_type} {node.name!r} reads {value.name!r} with other scales along an axis")
        factor, shift = grid.scale / own.scale, (own.zero - grid.zero) * grid.scale
        operands = [new_initializer(self.graph, f"{value.name}_{w}", np.float32(v).reshape(())) for w, v in
                    (("factor", factor), ("shift", shift))]  # fmt: skip
        product = self.add(node, "Mul", [found, operands[0]], f"{value.name}_rescaled", {})
        return self.add(node, "Add", [product, operands[1]], f"{value.name}_shifted", {})

    def write(self, node: ir.Node, value: ir.Value, floats: ir.Value, grid: Grid) -> None:
        """Let the quantized output ``value`` of ``node`` stand for a float value, behind a Q/DQ pair of that grid."""
        operands = [grid.scale_value, *([] if grid.zero_value is None else [grid.zero_value])]
        name = str(value.name)
        quantize = new_node(self.graph, "QuantizeLinear", [floats, *operands], f"{name}_quantize",
                            value.dtype or ir.DataType.UINT8)  # fmt: skip
        restore = new_node(self.graph, "DequantizeLinear", [quantize.outputs[0], *operands], f"{name}_dequantize",
                           ir.DataType.FLOAT)  # fmt: skip
        self.graph.insert_before(node, [quantize, restore])
        self.floats[value] = restore.outputs[0], grid


def dequantized(array: NDArray[Any], grid: Grid, axis: int = 1, block: int = 0) -> NDArray[np.float32]:
    """ONNX DequantizeLinear in NumPy: one scale, one for each channel of ``axis``, or one for each block of it."""
    scale, zero = grid.scale, grid.zero
    if block:
        scale, zero = (np.repeat(a, block, axis).take(range(array.shape[axis]), axis) for a in (scale, zero))
    elif scale.ndim == 1 and array.ndim > 1:
        column = [1] * array.ndim
        column[axis] = -1
        scale, zero = scale.reshape(column), zero.reshape(column) if zero.size > 1 else zero
    return np.asarray((array.astype(np.float64) - zero) * scale, np.float32)


def as_quantized(array: NDArray[Any], grid: Grid, axis: int, dtype: ir.DataType) -> NDArray[np.float64]:
    """ONNX QuantizeLinear in NumPy, as float64: the integers of a weight that is stored in float."""
    scale, zero = grid.scale, grid.zero
    if scale.ndim == 1 and array.ndim > 1:
        column = [1] * array.ndim
        column[axis] = -1
        scale, zero = scale.reshape(column), zero.reshape(column) if zero.size > 1 else zero
    low, high = limits(dtype)
    return np.asarray(np.clip(np.rint(array.astype(np.float64) / scale) + zero, low, high))


def limits(dtype: ir.DataType) -> tuple[int, int]:
    """The lowest and the highest number of an integer type.

    Raises:
        LiftError: it is no integer type.
    """
    if dtype.is_integer():
        bits, signed = int(dtype.bitwidth), dtype.is_signed()
        return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    raise LiftError(f"{dtype.name} has no integer limits")
