"""Channels whose scale is free: where a producer may give 1/s of a channel and the layers that read it take s times it.

The network's outputs stay what they were as long as everything in between is positively homogeneous, f(a x) = a f(x)
for a > 0 (ReLU, LeakyReLU, pooling), or there is nothing in between. SiLU, GELU, Sigmoid and clipping at 6 are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.graph import Linear, find_linears, layer_matrix, weights_read_once

Floats = NDArray[Any]

HOMOGENEOUS_OPS = frozenset({"Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool", "Identity"})
"""One input, channels apart."""

_ONNX = ("", "ai.onnx")


@dataclass(frozen=True, eq=False)
class Scaling:
    """One set of channels with free scales.

    Attributes:
        value: name of the activation that all readers read.
        axis: its channel axis.
        channels: how many.
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
    """What belongs to each input channel, for every feature of a layer: shape (groups, features)."""
    mine = per_channel.reshape(layer.groups, 1, -1)
    return np.broadcast_to(mine, (layer.groups, layer.taps, mine.shape[2])).reshape(layer.groups, -1)


def channel_peaks(model: ir.Model, layer: Linear) -> Floats:
    """Largest weight of each output for each input channel: shape (groups, outputs, channels of a group)."""
    matrix = np.abs(layer_matrix(model, layer))
    return np.asarray(matrix.reshape(layer.groups, layer.outputs, layer.taps, -1).max(axis=2))


def _scalings(model: ir.Model, layers: dict[str, Linear]) -> Iterator[Scaling]:
    for node in model.graph:
        if node.domain in _ONNX and node.op_type == "LayerNormalization":
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
    """The value behind all homogeneous nodes that alone read it, one after another."""
    while not value.is_graph_output() and len(uses := tuple(value.uses())) == 1:
        node = uses[0].node
        known = node.op_type in HOMOGENEOUS_OPS or (node.op_type == "Flatten" and _is_pooled(value))
        if node.domain not in _ONNX or not known or len(node.outputs) != 1:
            break
        value = node.outputs[0]
    return value


def _is_pooled(value: ir.Value) -> bool:
    """Whether nothing but batch and channels is left: then Flatten keeps channels where they are."""
    dims = tuple(value.shape or ())
    return len(dims) > 2 and all(d == 1 for d in dims[2:])


def _readers(value: ir.Value, axis: int, layers: dict[str, Linear]) -> Sequence[Linear]:
    """The linear layers that read the value along this channel axis; none, if anything else reads it."""
    rank = None if value.shape is None else len(value.shape)
    found = []
    for node, index in value.uses():
        layer = layers.get(str(node.name))
        same = layer is not None and rank is not None and layer.input_axis % rank == axis % rank
        if layer is None or not same or layer.input != value.name or node.inputs[index] is not value:
            return ()
        found.append(layer)
    return () if value.is_graph_output() else found
