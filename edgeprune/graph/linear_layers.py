"""One view of every linear layer: Conv, ConvTranspose, Gemm and MatMul with constant weights.

Each is ``y = W h + b`` over rows. A row h is one input patch (a convolution's ``kernel x channels``, zero padding
included, so borders are exact) or one vector (Gemm, MatMul); y are the outputs at that position. Features are ordered
kernel position first, channel last. A grouped layer is several independent maps: W has shape (groups, outputs,
features).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph.conv_patches import Window, window_of
from edgeprune.graph.edit import input_at, is_op

Floats = NDArray[Any]


@dataclass(frozen=True)
class Bias:
    """The bias of a layer, or its place.

    ``node`` reads the initializer ``value`` as its input number ``index``; an empty ``value`` means no bias yet.
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
        input: name of the activation that it reads.
        output: name of its output, before a bias that a later Add adds.
        weight: name of the initializer.
        weight_shape: shape of the initializer.
        channel_axis: axis of the initializer that is contracted with the input's channels.
        input_axis: channel axis of the input (negative: from the end).
        output_axis: channel axis of the output (negative: from the end).
        groups: number of independent maps.
        bias: the bias or its place.
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
        """Kernel positions; 1 for Gemm and MatMul."""
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
        """Values along the weight's channel axis, repeated for every feature: shape (groups, features)."""
        per_channel = per_channel.reshape(self.groups if self.op == "ConvTranspose" else 1, 1, -1)
        shape = (self.groups, self.taps, per_channel.shape[-1])
        return np.broadcast_to(per_channel, shape).reshape(self.groups, -1)

    def positions(self, input_shape: tuple[int, ...]) -> int:
        """Number of rows for an input of this shape."""
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
    """The linear view of a node; None if the node is not linear with constant weights."""
    return _VIEWS[node.op_type](node, graph) if is_op(node, *_VIEWS) else None


def _linear(
    node: ir.Node,
    x: ir.Value,
    weight: ir.Value,
    bias: Bias,
    channel_axis: int,
    axes: tuple[int, int],
    *,
    groups: int = 1,
    window: Window | None = None,
    scale: float = 1.0,
) -> Linear:
    """``axes``: the channel axes of input and output."""
    names = str(node.name), node.op_type, str(x.name), str(node.outputs[0].name), str(weight.name)
    return Linear(*names, _shape(weight), channel_axis, *axes, groups, bias, window, scale)


def _convolution(node: ir.Node, graph: ir.Graph) -> Linear | None:
    x, weight, bias = node.inputs[0], node.inputs[1], input_at(node, 2)
    if x is None or not _is_weight(weight, graph) or len(_shape(weight)) < 3:
        return None
    if bias is not None and bias.name not in graph.initializers:
        return None
    window = window_of(node, _shape(weight)[2:])
    if window is None:
        return None
    place = Bias(str(node.name), 2, str(bias.name) if bias is not None else "")
    channel_axis = 0 if node.op_type == "ConvTranspose" else 1
    groups = node.attributes.get_int("group", 1)
    return _linear(node, x, weight, place, channel_axis, (1, 1), groups=groups, window=window)


def _gemm(node: ir.Node, graph: ir.Graph) -> Linear | None:
    x, weight, bias = node.inputs[0], node.inputs[1], input_at(node, 2)
    alpha, beta = node.attributes.get_float("alpha", 1.0), node.attributes.get_float("beta", 1.0)
    if x is None or not _is_weight(weight, graph) or node.attributes.get_int("transA", 0) == 1 or not alpha or not beta:
        return None
    axis = node.attributes.get_int("transB", 0)
    if bias is not None and (bias.name not in graph.initializers or _size(bias) != _shape(weight)[1 - axis]):
        return None
    place = Bias(str(node.name), 2, str(bias.name) if bias is not None else "", beta)
    return _linear(node, x, weight, place, axis, (-1, -1), scale=alpha)


def _matmul(node: ir.Node, graph: ir.Graph) -> Linear | None:
    for weight, x, axis in ((node.inputs[1], node.inputs[0], 0), (node.inputs[0], node.inputs[1], 1)):
        if x is None or x.shape is None or len(x.shape) < 2:
            continue
        if _is_weight(weight, graph) and len(_shape(weight)) == 2:
            bias = _added_bias(node, graph, _shape(weight)[1 - axis], -1 - axis)
            return _linear(node, x, weight, bias, axis, (-1 - axis, -1 - axis))
    return None


def _added_bias(node: ir.Node, graph: ir.Graph, size: int, axis: int) -> Bias:
    """The bias of a MatMul: a vector that an Add right behind it adds, if nothing else reads the MatMul."""
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
    """Whether a value is a constant float array of this graph."""
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


def layers_by_weight(model: ir.Model, linears: Iterable[Linear]) -> dict[str, tuple[Linear, ...]]:
    """Weight -> the layers that read it, for weights that can be set: all readers use weight and bias in the same way.

    Of several layers none may depend on another one: what one computes would change the data of the other.
    """
    found: dict[str, list[Linear]] = {}
    for layer in linears:
        found.setdefault(layer.weight, []).append(layer)
    initializers = model.graph.initializers
    return {
        weight: tuple(layers)
        for weight, layers in found.items()
        if len(tuple(initializers[weight].uses())) == len(layers)
        and (len(layers) == 1 or (len({_use(layer) for layer in layers}) == 1 and _independent(model, layers)))
    }


def _use(layer: Linear) -> tuple[object, ...]:
    bias = layer.bias
    return (
        layer.op,
        layer.channel_axis,
        layer.groups,
        layer.scale,
        bool(layer.window),
        bias.value,
        bias.index,
        bias.scale,
    )


def _independent(model: ir.Model, layers: list[Linear]) -> bool:
    behind: set[str] = set()
    ends = {layer.node for layer in layers}
    for node in model.graph:
        if any(value is not None and value.name in behind for value in node.inputs):
            if node.name in ends:
                return False
        elif node.name not in ends:
            continue
        behind.update(str(value.name) for value in node.outputs)
    return True
