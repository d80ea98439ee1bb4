"""Channels whose scale is free: the producer can divide a channel by s if the layers that read it multiply it by s.

The network's outputs stay the same if everything in between is positively homogeneous, f(a x) = a f(x) for a > 0 (ReLU,
LeakyReLU, pooling), or if there is nothing in between. SiLU, GELU, Sigmoid and clipping at 6 are not homogeneous.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune.graph import ONNX_DOMAINS, Floats, Linear, find_linears, is_op, layer_matrix, weights_read_once

HOMOGENEOUS_OPS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"})
"""Operators with one input that do not mix channels."""


@dataclass(frozen=True, eq=False)
class Scaling:
    """One set of channels with free scales.

    Attributes:
        value: name of the activation that all readers read.
        axis: its channel axis.
        channels: number of channels.
        vectors: initializers that are divided by s along their only axis that is not 1 (biases; scale and shift of a
            normalization).
        producer: the linear layer whose outputs are divided by s, or None.
        readers: linear layers whose weights are multiplied by s along their input channels.
    """

    value: str
    axis: int
    channels: int
    vectors: tuple[str, ...]
    producer: Linear | None
    readers: tuple[Linear, ...]


def find_scalings(model: ir.Model) -> tuple[Scaling, ...]:
    """Every set of channels whose scale is free, in graph order."""
    linears = find_linears(model)
    single = weights_read_once(model, linears.values())
    layers = {n: layer for n, layer in linears.items() if layer.weight in single}
    return tuple(_scalings(model, layers))


def feature_scale(layer: Linear, per_channel: Floats) -> Floats:
    """Values per input channel, repeated for every feature of a layer: shape (groups, features)."""
    mine = per_channel.reshape(layer.groups, 1, -1)
    return np.broadcast_to(mine, (layer.groups, layer.taps, mine.shape[2])).reshape(layer.groups, -1)


def channel_peaks(model: ir.Model, layer: Linear) -> Floats:
    """Largest weight of each output for each input channel: shape (groups, outputs, channels of a group)."""
    matrix = np.abs(layer_matrix(model, layer))
    return np.asarray(matrix.reshape(layer.groups, layer.outputs, layer.taps, -1).max(axis=2))


def _scalings(model: ir.Model, layers: dict[str, Linear]) -> Iterator[Scaling]:
    for node in model.graph:
        if is_op(node, "LayerNormalization"):
            yield from _of_normalization(node, layers)
        elif str(node.name) in layers:
            yield from _of_layer(model, node, layers[str(node.name)], layers)


def _of_layer(model: ir.Model, node: ir.Node, layer: Linear, layers: dict[str, Linear]) -> Iterator[Scaling]:
    end, vectors = node.outputs[0], (layer.bias.value,) if layer.bias.value else ()
    if layer.op == "MatMul" and layer.bias.value:
        end = next(n for n in model.graph if n.name == layer.bias.node).outputs[0]
    if any(len(tuple(model.graph.initializers[v].uses())) > 1 for v in vectors):
        return
    end = _through_homogeneous(end)
    readers = _readers(end, layer.output_axis, layers)
    if readers:
        yield Scaling(str(end.name), layer.output_axis, layer.groups * layer.outputs, vectors, layer, tuple(readers))


def _of_normalization(node: ir.Node, layers: dict[str, Linear]) -> Iterator[Scaling]:
    vectors = [v for v in node.inputs[1:] if v is not None]
    end = node.outputs[0]
    if (
        end.shape is None
        or node.attributes.get_int("axis", -1) not in (-1, len(end.shape) - 1)
        or any(v.const_value is None or len(tuple(v.uses())) > 1 or len(v.const_value.shape) != 1 for v in vectors)
        or not vectors
    ):
        return
    readers = _readers(end, -1, layers)
    assert vectors[0].const_value is not None
    if readers:
        channels = int(vectors[0].const_value.size)
        yield Scaling(str(end.name), -1, channels, tuple(str(v.name) for v in vectors), None, tuple(readers))


def _through_homogeneous(value: ir.Value) -> ir.Value:
    """The value behind a chain of homogeneous nodes, each the only reader of the node before."""
    while not value.is_graph_output() and len(uses := tuple(value.uses())) == 1:
        node = uses[0].node
        known = node.op_type in HOMOGENEOUS_OPS or (node.op_type == "Flatten" and _is_pooled(value))
        if node.domain not in ONNX_DOMAINS or not known or len(node.outputs) != 1:
            break
        value = node.outputs[0]
    return value


def _is_pooled(value: ir.Value) -> bool:
    """Whether all axes behind the channels have length 1: then Flatten does not move channels."""
    dims = tuple(value.shape or ())
    return len(dims) > 2 and all(d == 1 for d in dims[2:])


def _readers(value: ir.Value, axis: int, layers: dict[str, Linear]) -> Sequence[Linear]:
    """The linear layers that read the value along this channel axis; none if another node reads it too."""
    rank = None if value.shape is None else len(value.shape)
    found = []
    for node, index in value.uses():
        layer = layers.get(str(node.name))
        same = layer is not None and rank is not None and layer.input_axis % rank == axis % rank
        if layer is None or not same or layer.input != value.name or node.inputs[index] is not value:
            return ()
        found.append(layer)
    return () if value.is_graph_output() else found
