"""One view of every layer that is linear in its input: Conv, ConvTranspose, Gemm and MatMul with constant weights.

Each is ``y = W h + b`` over rows: a row h is one input patch (a convolution's ``kernel x channels``, zero padding
included, so borders are exact) or one vector (Gemm, MatMul), y the outputs at that position. Features are ordered
kernel first, channel last. Grouped layers are as many independent maps: W has shape (groups, outputs, features).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.conv_patches import Window, window_of

Floats = NDArray[Any]


@dataclass(frozen=True)
class Bias:
    """Where a layer's bias is, or would go.

    ``node`` reads the initializer ``value`` as its input number ``index``; without a ``value`` there is none yet.
    """

    node: str
    index: int
    value: str
    scale: float = 1.0


@dataclass(frozen=True)
class Linear:
    """A linear layer of a model; see the module's text.

    Attributes:
        node: the node's name.
        op: its operator.
        input: name of the activation it reads.
        output: name of what it gives, before a bias that a later Add adds.
        weight: name of the initializer.
        weight_shape: shape of the initializer.
        channel_axis: axis of the initializer that is contracted with the input's channels.
        input_axis: axis of the input that holds the channels (negative: from the end).
        output_axis: axis of the output that holds the channels (negative: from the end).
        groups: number of independent maps.
        bias: where the bias is.
        window: the convolution's geometry, None for Gemm and MatMul.
        scale: Gemm's alpha.
    """

    node: str
    op: str
    input: str
    output: str
    weight: str
    weight_shape: tuple[int, ...]
    channel_axis: int
    input_axis: int
    output_axis: int
    groups: int
    bias: Bias
    window: Window | None = None
    scale: float = 1.0

    @property
    def taps(self) -> int:
        """Positions of the kernel; 1 for Gemm and MatMul."""
        return self.window.taps if self.window else 1

    @property
    def features(self) -> int:
        """Features of one group: taps times input channels."""
        size = int(np.prod(self.weight_shape))
        return size // (self.outputs * self.groups)

    @property
    def outputs(self) -> int:
        """Output channels of one group."""
        if self.op == "Conv":
            return self.weight_shape[0] // self.groups
        return self.weight_shape[1] if self.op == "ConvTranspose" else self.weight_shape[1 - self.channel_axis]

    def matrix(self, weight: Floats) -> Floats:
        """The initializer as W, shape (groups, outputs, features)."""
        g = self.groups
        if self.op == "Conv":
            split = weight.reshape(g, self.outputs, weight.shape[1], self.taps)
            return np.asarray(split.transpose(0, 1, 3, 2).reshape(g, self.outputs, -1))
        if self.op == "ConvTranspose":
            split = weight.reshape(g, weight.shape[0] // g, self.outputs, self.taps)[..., ::-1]
            return np.asarray(split.transpose(0, 2, 3, 1).reshape(g, self.outputs, -1))
        return np.asarray(self.scale * (weight if self.channel_axis else weight.T)[None])

    def weight_from(self, matrix: Floats) -> Floats:
        """The inverse of :meth:`matrix`: an array of the initializer's shape."""
        g, shape = self.groups, self.weight_shape
        if self.op == "Conv":
            split = matrix.reshape(g, self.outputs, self.taps, shape[1])
            return np.asarray(split.transpose(0, 1, 3, 2).reshape(shape))
        if self.op == "ConvTranspose":
            split = matrix.reshape(g, self.outputs, self.taps, shape[0] // g).transpose(0, 3, 1, 2)
            return np.asarray(split[..., ::-1].reshape(shape))
        return np.asarray((matrix[0] if self.channel_axis else matrix[0].T) / self.scale)

    def feature_values(self, per_channel: NDArray[Any]) -> NDArray[Any]:
        """What belongs to each position of the weight's channel axis, for every feature: shape (groups, features)."""
        per_channel = per_channel.reshape(self.groups if self.op == "ConvTranspose" else 1, 1, -1)
        shape = (self.groups, self.taps, per_channel.shape[-1])
        return np.broadcast_to(per_channel, shape).reshape(self.groups, -1)

    def positions(self, input_shape: tuple[int, ...]) -> int:
        """How many rows there are for an input of this shape."""
        if self.window is not None:
            return int(input_shape[0] * np.prod(self.window.output_space(input_shape[2:])))
        return int(np.prod(input_shape)) // max(1, input_shape[self.input_axis])

    def rows(self, x: Floats, chosen: NDArray[np.int64]) -> Floats:
        """Patches at the chosen positions, flat over batch and space: shape (groups, len(chosen), features)."""
        if self.window is not None:
            return self.window.patches(x, chosen, self.groups)
        return _vectors(x, chosen, self.input_axis)[None]

    def targets(self, y: Floats, chosen: NDArray[np.int64]) -> Floats:
        """Outputs at the chosen positions: shape (groups, len(chosen), outputs)."""
        vectors = _vectors(y, chosen, self.output_axis)
        return np.asarray(vectors.reshape(len(chosen), self.groups, -1).transpose(1, 0, 2))


def find_linears(model: ir.Model) -> dict[str, Linear]:
    """Every linear layer with constant weights in the main graph, by node name, in graph order."""
    found = (linear_of(node, model.graph) for node in model.graph)
    return {linear.node: linear for linear in found if linear is not None}


def linear_of(node: ir.Node, graph: ir.Graph) -> Linear | None:
    """The linear view of a node, None if it has none."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in _VIEWS:
        return None
    return _VIEWS[node.op_type](node, graph)


def _convolution(node: ir.Node, graph: ir.Graph) -> Linear | None:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or not _is_weight(weight, graph) or len(_shape(weight)) < 3:
        return None
    shape = _shape(weight)
    transposed = node.op_type == "ConvTranspose"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and bias.name not in graph.initializers:
        return None
    window = window_of(node, shape[2:])
    if window is None:
        return None
    return Linear(
        node=str(node.name),
        op=node.op_type,
        input=str(x.name),
        output=str(node.outputs[0].name),
        weight=str(weight.name),
        weight_shape=shape,
        channel_axis=0 if transposed else 1,
        input_axis=1,
        output_axis=1,
        groups=node.attributes.get_int("group", 1),
        bias=Bias(str(node.name), 2, str(bias.name) if bias is not None else ""),
        window=window,
    )


def _gemm(node: ir.Node, graph: ir.Graph) -> Linear | None:
    x, weight = node.inputs[0], node.inputs[1]
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if x is None or not _is_weight(weight, graph) or node.attributes.get_int("transA", 0) == 1 or not alpha or not beta:
        return None
    shape = _shape(weight)
    axis = node.attributes.get_int("transB", 0)
    if bias is not None and (bias.name not in graph.initializers or _size(bias) != shape[1 - axis]):
        return None
    return Linear(
        node=str(node.name),
        op="Gemm",
        input=str(x.name),
        output=str(node.outputs[0].name),
        weight=str(weight.name),
        weight_shape=shape,
        channel_axis=axis,
        input_axis=-1,
        output_axis=-1,
        groups=1,
        bias=Bias(str(node.name), 2, str(bias.name) if bias is not None else "", beta),
        scale=alpha,
    )


def _matmul(node: ir.Node, graph: ir.Graph) -> Linear | None:
    for weight, x, axis in ((node.inputs[1], node.inputs[0], 0), (node.inputs[0], node.inputs[1], 1)):
        if (
            x is None
            or not _is_weight(weight, graph)
            or len(_shape(weight)) != 2
            or x.shape is None
            or len(x.shape) < 2
        ):
            continue
        shape = _shape(weight)
        return Linear(
            node=str(node.name),
            op="MatMul",
            input=str(x.name),
            output=str(node.outputs[0].name),
            weight=str(weight.name),
            weight_shape=shape,
            channel_axis=axis,
            input_axis=-1 - axis,
            output_axis=-1 - axis,
            groups=1,
            bias=_added_bias(node, graph, shape[1 - axis], -1 - axis),
        )
    return None


def _added_bias(node: ir.Node, graph: ir.Graph, size: int, axis: int) -> Bias:
    """The bias of a MatMul: an Add of a vector right behind it, if that is all that reads it."""
    uses = tuple(node.outputs[0].uses())
    if len(uses) == 1 and uses[0].node.op_type == "Add" and not node.outputs[0].is_graph_output():
        add, index = uses[0].node, 1 - uses[0].idx
        other = add.inputs[index]
        if other is not None and other.name in graph.initializers and other.shape is not None and _size(other) == size:
            shape = _shape(other)
            if len(shape) >= -axis and shape[axis] == size:
                return Bias(str(add.name), index, str(other.name))
    return Bias(str(node.name), -1, "")


def _vectors(x: Floats, chosen: NDArray[np.int64], axis: int) -> Floats:
    """Vectors along an axis at flat positions of the other axes: shape (len(chosen), size of the axis)."""
    moved = np.moveaxis(x, axis, -1)
    if moved.flags.c_contiguous:
        return moved.reshape(-1, moved.shape[-1])[chosen]
    return moved[np.unravel_index(chosen, moved.shape[:-1])]


def _is_weight(value: ir.Value | None, graph: ir.Graph) -> TypeGuard[ir.Value]:
    """Whether a value is a constant array of floats, inside this graph."""
    if value is None or value.name not in graph.initializers or value.is_graph_input():
        return False
    return value.const_value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.const_value.shape)


def _size(value: Any) -> int:
    return int(np.prod(_shape(value)))


_VIEWS = {"Conv": _convolution, "ConvTranspose": _convolution, "Gemm": _gemm, "MatMul": _matmul}


def weights_read_once(model: ir.Model, linears: Iterable[Linear]) -> set[str]:
    """Names of the layers' weights that no other node reads."""
    initializers = model.graph.initializers
    return {layer.weight for layer in linears if len(tuple(initializers[layer.weight].uses())) == 1}
