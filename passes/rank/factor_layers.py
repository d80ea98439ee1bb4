"""A linear layer becomes two: a narrow one that makes ``rank`` values, and one that makes the outputs from them.

The first layer is new. The second one keeps the name, the output and the bias of the layer, so everything behind it is
as before. A convolution of any window becomes the same window to fewer channels and a 1x1 convolution.

Requires a canonical float model. Ensures that names, shapes and types of all values that were there stay; a layer whose
rank is as large as its smaller side stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.errors import PassError
from edgeprune.graph import (
    Linear,
    Refused,
    clone,
    find_linears,
    fresh_name,
    has_bias,
    layer_bias,
    layer_matrix,
    naming,
    new_initializer,
    remove_dead,
    set_weights,
    weights_read_once,
)
from edgeprune.passes.rank.factorization import Factors, Principal, principal
from edgeprune.quantization import input_moments
from edgeprune.recovery import Sampling

SAMPLING = Sampling(macs=4e9, most_rows=8192)
"""Rows of a layer's input from which its covariance is estimated."""

FIRST, SECOND = "_first", "_second"
"""What the names of the two weights add to that of the weight."""


def first_of(node: str) -> str:
    """The name of the layer that is put in front of a node."""
    return f"{node}/rank"


def factorable(model: ir.Model) -> dict[str, Linear | Refused]:
    """For every linear layer, its view if it can become two, or why not."""
    linears = find_linears(model)
    once = weights_read_once(model, linears.values())
    return {name: _verdict(layer, once) for name, layer in linears.items()}


def _verdict(layer: Linear, once: set[str]) -> Linear | Refused:
    if layer.op == "ConvTranspose" or layer.groups > 1:
        return Refused("it is a grouped or transposed convolution")
    if layer.op == "MatMul" and layer.channel_axis:
        return Refused("its weight is the first operand")
    if layer.weight not in once:
        return Refused(f"its weight {layer.weight!r} is shared")
    return layer


def principals(
    model: ir.Model, nodes: Sequence[str], data: Calibration | None, threads: int = 1
) -> Iterator[tuple[str, Principal]]:
    """Every node with the principal directions of its outputs on samples; of the weights alone for random data.

    Args:
        model: canonical, float.
        nodes: names of layers that can become two.
        data: samples; None takes any directions, for timing alone.
        threads: threads of onnxruntime.

    Raises:
        PassError: a layer cannot become two; the text names it.
        CalibrationError: an activation is not finite on the data.
    """
    layers = [_checked(model, name) for name in dict.fromkeys(nodes)]
    if data is None or data.is_random:
        for layer in layers:
            w = layer_matrix(model, layer)[0]
            any_ = Principal(w, np.zeros(w.shape[1]), np.eye(len(w)), np.ones(len(w)))
            yield layer.node, any_ if data is None else principal(w, np.ones(w.shape[1]))
        return
    for layer, moments in input_moments(model, layers, data, sampling=SAMPLING, threads=threads):
        centred = has_bias(layer)
        spread = moments.gram(0, centred) if moments.exact else moments.covariance[0]
        yield layer.node, principal(layer_matrix(model, layer)[0], spread, moments.mean[0] if centred else None)


def factor_layers(model: ir.Model, factors: Mapping[str, Factors]) -> ir.Model:
    """A copy of the model in which the named layers are two; the model itself if none is.

    Args:
        model: canonical, float; not changed.
        factors: node -> its two matrices, as of `principals`.

    Raises:
        PassError: a layer cannot become two; the text names it.
    """
    layers = {name: _checked(model, name) for name in factors}
    chosen = {n: x for n, x in layers.items() if len(factors[n].first) < min(x.features, x.outputs)}
    if not chosen:
        return model
    copy = clone(model)
    nodes = {str(n.name): n for n in copy.graph}
    with naming(copy.graph):
        for name, layer in chosen.items():
            _split(copy, nodes[name], layer, factors[name])
    remove_dead(copy.graph)
    return copy


def _checked(model: ir.Model, name: str) -> Linear:
    layer = factorable(model).get(name)
    if layer is None:
        raise PassError(f"factor_layers: the model has no layer {name!r}")
    if isinstance(layer, Refused):
        raise PassError(f"factor_layers: node {name!r} cannot become two: {layer}")
    return layer


def _split(model: ir.Model, node: ir.Node, layer: Linear, factors: Factors) -> None:
    graph, x, out = model.graph, node.inputs[0], node.outputs[0]
    assert x is not None
    weight = graph.initializers[layer.weight].const_value
    assert weight is not None
    dtype, rank = weight.dtype.numpy(), len(factors.first)
    first, second = factors.first, factors.second
    attributes = [a for a in node.attributes.values() if a.name not in ("alpha", "beta")]
    inner = ir.Value(name=fresh_name(graph, f"{out.name}_rank"), type=out.type)
    if out.shape is not None:
        dims = list(out.shape)
        dims[layer.output_axis] = rank
        inner.shape = ir.Shape(dims)
    if layer.op == "Conv":
        window = layer.weight_shape[2:]
        arrays = (
            first.reshape(rank, layer.taps, -1).transpose(0, 2, 1).reshape(rank, layer.weight_shape[1], *window),
            second.reshape(layer.outputs, rank, *[1] * len(window)),
        )
    else:
        arrays = (first if layer.channel_axis else first.T, (second if layer.channel_axis else second.T) / layer.scale)
    bias = layer_bias(model, layer)
    names = (f"{layer.weight}{FIRST}", f"{layer.weight}{SECOND}")
    one, two = (new_initializer(graph, n, a.astype(dtype)) for n, a in zip(names, arrays, strict=True))
    added = ir.Node("", layer.op, [x, one], attributes, outputs=[inner], name=fresh_name(graph, first_of(layer.node)))
    graph.insert_before(node, [added])
    node.replace_input_with(0, inner)
    node.replace_input_with(1, two)
    if layer.op == "Conv":
        for attribute in attributes:
            node.attributes.pop(attribute.name)
        node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", [1] * len(layer.weight_shape[2:]))
    if has_bias(layer):
        view = find_linears(model)[layer.node]
        set_weights(model, view, layer_matrix(model, view), bias + factors.offset[None])
