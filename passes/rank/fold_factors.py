"""The first of two thin layers goes into the linear layer before: with no function between them they are one matrix.

``y = B (A (P x + p)) + b`` needs only ``A P`` and ``A p``: the layer before takes the factor, and makes as few outputs
as the rank. So two layers in a row become two narrower ones, and the split costs no kernel. It is the cut of the
channels between them in the best basis (a layer behind has its factor taken in the same way: it is split itself).

Requires layers that `edgeprune.passes.rank.factor_layers.factor_layers` split. Ensures that every value but those
between the two layers stays as it is; these get new names, since they are other values now.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from edgeprune.graph import (
    Floats,
    Linear,
    constant,
    find_linears,
    fresh_name,
    layer_bias,
    layer_matrix,
    naming,
    new_initializer,
    only_use,
    remove_dead,
    weights_read_once,
)
from edgeprune.passes.rank.factor_layers import first_of


def layers_before(model: ir.Model) -> dict[str, str]:
    """Linear layer -> the linear layer whose result it alone reads, with no function between; only where there is one.

    A convolution with a window of several pixels, or with padding, takes in none: its border reads zeros.
    """
    linears = find_linears(model)
    once = weights_read_once(model, linears.values())
    plain = {name: x for name, x in linears.items() if _is_plain(x) and x.weight in once}
    results = {str(_result(model, x).name): x for x in plain.values()}
    found: dict[str, str] = {}
    for name, layer in plain.items():
        before = results.get(layer.input)
        if before is None or before.op != layer.op or not _is_pointwise(layer):
            continue
        use = only_use(_result(model, before))
        if use is not None and use[0].name == name:
            found[name] = before.node
    return found


def fold_factors(model: ir.Model, nodes: Collection[str]) -> int:
    """Fold the first factor of every layer of ``nodes`` into a linear layer before it, in place; returns how many.

    Args:
        model: in which these layers were split.
        nodes: names of the layers, as before they were split.
    """
    folded = 0
    with naming(model.graph):
        for name in nodes:
            before = layers_before(model).get(first_of(name))
            if before is not None:
                linears = find_linears(model)
                _fold(model, linears[before], linears[first_of(name)])
                folded += 1
    return folded


def _fold(model: ir.Model, before: Linear, first: Linear) -> None:
    """The layer before makes what the first factor makes of its result."""
    graph = model.graph
    nodes = {str(n.name): n for n in graph}
    node, factor, result = nodes[before.node], layer_matrix(model, first)[0], _result(model, before)
    matrix, bias = factor @ layer_matrix(model, before)[0], factor @ _bias(model, before)
    shape = list(before.weight_shape)
    shape[0 if before.op == "Conv" else 1 - before.channel_axis] = len(matrix)
    weight = replace(before, weight_shape=tuple(shape)).weight_from(matrix[None])
    stored = constant(graph.initializers[before.weight])
    assert stored is not None
    node.replace_input_with(1, new_initializer(graph, f"{before.weight}_folded", weight.astype(stored.dtype)))
    if before.bias.value:
        vector = new_initializer(graph, f"{before.bias.value}_folded", (bias / before.bias.scale).astype(stored.dtype))
        nodes[before.bias.node].replace_input_with(before.bias.index, vector)
    made = nodes[first.node].outputs[0]
    made.replace_all_uses_with(result)
    for value in dict.fromkeys((node.outputs[0], result)):
        value.shape = None if made.shape is None else made.shape.copy()
        value.name = fresh_name(graph, f"{value.name}_folded")
    remove_dead(graph)


def _bias(model: ir.Model, layer: Linear) -> Floats:
    """The bias of a layer, whichever node adds it; zeros if there is none."""
    if layer.op != "MatMul" or not layer.bias.value:
        return np.asarray(layer_bias(model, layer)[0])
    found = constant(model.graph.initializers[layer.bias.value])
    return np.asarray(found, np.float64).reshape(-1)


def _result(model: ir.Model, layer: Linear) -> ir.Value:
    """The output of a layer, with its bias."""
    name = layer.bias.node if layer.op == "MatMul" and layer.bias.value else layer.node
    return next(n.outputs[0] for n in model.graph if n.name == name)


def _is_plain(layer: Linear) -> bool:
    if layer.op == "ConvTranspose" or layer.groups > 1:
        return False
    return layer.op != "MatMul" or not layer.channel_axis


def _is_pointwise(layer: Linear) -> bool:
    window = layer.window
    return window is None or (layer.taps == 1 and not any((*window.before, *window.after)) and not window.auto_pad)
