"""2:4 sparsity along input channels, for the sparse tensor cores of NVIDIA's Ampere and later.

At most two of every four consecutive *input channels* are non-zero, for each output channel and kernel position. The
channels of a convolution are in the order of its weight; the rows of a MatMul's weight are its input channels. The
weights that stay are refitted to the layer's own outputs on calibration data, and the bias corrects their mean.

If the order of channels is free, they are reordered first so that less is lost
(`edgeprune.passes.prune.permute_channels`).

Requires a canonical float model. Ensures that the named layers, and only they, have 2:4 weights, that zeros stay zeros
in INT8 (symmetric scales represent zero exactly), and that all names and shapes stay.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.dependency import Group
from edgeprune.errors import PassError
from edgeprune.graph import (
    Linear,
    Refused,
    clone,
    find_linears,
    has_bias,
    layer_bias,
    layer_matrix,
    layers_by_weight,
    quantize_weight,
    set_shared_weights,
)
from edgeprune.passes.prune.permute_channels import permute_channels
from edgeprune.quantization import METHODS, Grid, InputMoments, Method, input_moments, is_two_of_four, sparsify_matrix
from edgeprune.support import shared_cores


def sparsity_eligible(model: ir.Model) -> dict[str, bool | Refused]:
    """For every node, whether its weights can be 2:4 sparse, or why not."""
    linears = find_linears(model)
    together = layers_by_weight(model, linears.values())
    return {str(n.name): _eligible(n, linears.get(str(n.name)), together) for n in model.graph}


def _eligible(node: ir.Node, layer: Linear | None, together: Collection[str]) -> bool | Refused:
    if layer is None or layer.op == "ConvTranspose":
        return Refused(f"{node.op_type} has no constant weight for each input channel")
    if layer.groups > 1:
        return Refused("it is a grouped convolution")
    if layer.weight not in together:
        return Refused(f"its weight {layer.weight!r} is shared with a node that uses it in another way")
    channels = layer.features // layer.taps
    if channels % 4:
        return Refused(f"its {channels} input channels are no multiple of 4")
    return True


@shared_cores()
def sparsify(
    model: ir.Model,
    nodes: Sequence[str],
    calibration: Calibration | None,
    *,
    method: Method = "sparsegpt",
    int8: Collection[str] = (),
    groups: Collection[Group] = (),
    refined: bool = True,
    threads: int = 1,
) -> ir.Model:
    """A copy of the model in which the named layers have 2:4 weights.

    Args:
        model: canonical, float.
        nodes: names of eligible nodes.
        calibration: samples; only ``magnitude`` needs none.
        method: how zeros are chosen; see `edgeprune.quantization.two_four`.
        int8: nodes whose weights are rounded to the INT8 grid of each output channel in the same pass.
        groups: groups of the model's analysis whose channels may be reordered first, so that less is lost.
        refined: whether the result of sparsegpt is refitted further; not needed to compare layers.
        threads: threads of onnxruntime.

    Raises:
        PassError: a node is unknown or not eligible, the method is unknown, or it needs data and there is none.
        CalibrationError: an activation is not finite on the data.
    """
    if method not in METHODS:
        raise PassError(f"sparsify: there is no method {method!r}, only {', '.join(METHODS)}")
    if calibration is None and method != "magnitude":
        raise PassError(f"sparsify: the method {method!r} needs calibration data; only 'magnitude' needs none")
    eligible = sparsity_eligible(model)
    for name in nodes:
        if name not in eligible:
            raise PassError(f"sparsify: the model has no node {name!r}")
        if not eligible[name]:
            raise PassError(f"sparsify: node {name!r} cannot be 2:4: {eligible[name]}")
    linears = find_linears(model)
    readers = layers_by_weight(model, linears.values())
    for name in nodes:
        if missing := [x.node for x in readers[linears[name].weight] if x.node not in nodes]:
            raise PassError(f"sparsify: node {name!r} shares its weight with {missing[0]!r}, so both must be 2:4")
    copy = permute_channels(model, groups, nodes, _variances(model, nodes, calibration, threads) if groups else None)
    linears = find_linears(copy)
    together = dict(layers_by_weight(copy, linears.values()))
    # All moments are of the model before any layer changes, and only some of them are in memory at a time.
    for layer, moments in _with_moments(clone(copy), [linears[n] for n in dict.fromkeys(nodes)], calibration, threads):
        if (layers := together.pop(layer.weight, None)) is not None:
            _sparsify_layers(copy, layers, moments, method, layer.node in int8, refined)
    check_two_of_four(copy, nodes)
    return copy


def check_two_of_four(model: ir.Model, nodes: Sequence[str]) -> None:
    """Check that the float weights of these nodes are 2:4 sparse, as stored and on the INT8 grid.

    Raises:
        PassError: the weights of a node are not 2:4; the message names the node.
    """
    linears = find_linears(model)
    for name in nodes:
        if name not in linears:
            raise PassError(f"sparsify: node {name!r} has no float weight that could be 2:4")
        matrix = layer_matrix(model, linears[name])[0]
        integers, _, _ = quantize_weight(matrix, 0)
        if not (is_two_of_four(matrix) and is_two_of_four(integers)):
            raise PassError(f"sparsify: the weights of node {name!r} are not 2:4 along input channels")


def _variances(
    model: ir.Model, nodes: Collection[str], calibration: Calibration | None, threads: int
) -> dict[str, InputMoments]:
    if calibration is None:
        return {}
    layers = [layer for name, layer in find_linears(model).items() if name in nodes]
    return {layer.node: m for layer, m in input_moments(model, layers, calibration, most_features=0, threads=threads)}


def _with_moments(
    model: ir.Model, layers: Sequence[Linear], calibration: Calibration | None, threads: int
) -> Iterator[tuple[Linear, InputMoments | None]]:
    if calibration is None:
        yield from ((layer, None) for layer in layers)
        return
    yield from input_moments(model, layers, calibration, threads=threads)


def _sparsify_layers(
    model: ir.Model, layers: Sequence[Linear], moments: InputMoments | None, method: Method, int8: bool, refined: bool
) -> None:
    """Make the weight of one layer 2:4, or of several layers that share it."""
    layer = layers[0]
    matrix = layer_matrix(model, layer)[0]
    centred = has_bias(layer)
    gram = None if moments is None else moments.gram(0, centred)
    grid = Grid(quantize_weight(matrix, 0)[1].astype(np.float64), 127) if int8 else None
    sparse = sparsify_matrix(matrix, gram, method, grid, refined=refined)
    bias = layer_bias(model, layer)
    if moments is not None and centred:
        bias = bias + ((matrix - sparse) @ moments.mean[0])[None]
    set_shared_weights(model, layers, sparse[None], bias)
