"""Two layers of low rank become one again, with the product of their weights: for tools that know the layer as one.

The inverse of `edgeprune.passes.rank.factor_layers`, but for the rank, which stays low. A pair whose first layer was
folded into the layer before stays as it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import onnx_ir as ir

from edgeprune.graph import Linear, add_initializer, clone, find_linears, layer_matrix, remove_dead
from edgeprune.passes.rank.factor_layers import FIRST, SECOND, first_of


def multiply_factors(model: ir.Model, nodes: Collection[str]) -> ir.Model:
    """A copy of a float model in which these layers are one, under their names and those of their weights.

    Args:
        model: in which these layers were split; not changed.
        nodes: names of the layers.
    """
    copy = clone(model)
    by_name = {str(n.name): n for n in copy.graph}
    linears = find_linears(copy)
    for name in nodes:
        first, second = linears.get(first_of(name)), linears.get(name)
        if first is None or second is None or not second.weight.endswith(SECOND):
            continue
        weight = copy.graph.initializers[first.weight].const_value
        assert weight is not None
        product = _whole(first, second).weight_from(layer_matrix(copy, second)[:1] @ layer_matrix(copy, first)[:1])
        one, two = by_name[first.node], by_name[name]
        name_of_weight = second.weight.removesuffix(SECOND)
        whole = add_initializer(copy.graph, name_of_weight, product.astype(weight.dtype.numpy()))
        two.replace_input_with(0, one.inputs[0])
        two.replace_input_with(1, whole)
        if first.op == "Conv":
            two.attributes.pop("kernel_shape")
            two.attributes.update({a.name: a for a in one.attributes.values()})
    remove_dead(copy.graph)
    return copy


def _whole(first: Linear, second: Linear) -> Linear:
    """The view of the layer as it was: the window of the first, and the outputs of the second."""
    shape = list(first.weight_shape)
    shape[0 if first.op == "Conv" else 1 - first.channel_axis] = second.outputs
    assert first.weight.endswith(FIRST)
    return replace(second, window=first.window, weight_shape=tuple(shape))
