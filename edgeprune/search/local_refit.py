"""Cut one group and refit its readers from the inputs of the dense network: the quick form of compensation.

The refit is the closed form of the ranking by `edgeprune.importance.obs` (the formula of CORP and OBC), which kept it
at a few widths:

    W_S <- W_S + W_P B      b <- b + W m - W_S m_S      B = C_PS (C_SS + r I)^-1

The full compensation works through the compressed network layer by layer. This one only prices single widths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency import Analysis, Group, droppable
from edgeprune.graph import Linear, find_linears, layers_by_weight, shift_outputs
from edgeprune.importance import Consumer, Context, ReaderRefits
from edgeprune.passes.prune import merge_branches, prune_channels, shift_behind

Floats = NDArray[Any]


def cut_and_refit(
    context: Context, analysis: Analysis, group: Group, kept: NDArray[np.int64], refits: ReaderRefits | None
) -> ir.Model:
    """The model with this group alone cut to the kept units, and its readers refitted if that width was kept."""
    pruned = prune_channels(context.model, analysis, {group.id: kept}, inferred=False)
    if refits is None:
        return pruned
    linears = find_linears(pruned)
    together = dict(layers_by_weight(pruned, linears.values()))
    matrices = refits.matrices.get(len(kept), {})
    stays = np.zeros(group.size + 1, dtype=bool)
    stays[kept] = stays[-1] = True  # position -1 stands for channels that belong to no unit
    for consumer in context.consumers(group):
        linear = linears.get(consumer.linear.node)
        if linear is None or consumer.linear.node not in refits.means:
            continue
        twins = together.pop(linear.weight, None)
        if twins is None:  # refitted already, with the first of the layers that share it, or no one fit serves all
            continue
        means = refits.means[consumer.linear.node]
        if not len(kept):  # the branch is dropped: its mean stays
            matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))[0]
            shift = shift_behind(context.model, droppable(context.model, [group])[group.id], matrix @ means[0])
            for twin in twins:
                shift_outputs(pruned, twin, shift)
        elif consumer.linear.node in matrices:
            _refit(context, pruned, linear, consumer, stays[consumer.unit], means, matrices[consumer.linear.node])
    merge_branches(pruned)
    return pruned


def _refit(
    context: Context,
    pruned: ir.Model,
    linear: Linear,
    consumer: Consumer,
    stays: NDArray[np.bool_],
    means: Floats,
    rows: list[NDArray[np.float32]],
) -> None:
    if linear.outputs != consumer.linear.outputs or linear.groups != consumer.linear.groups:
        return
    initializers = pruned.graph.initializers
    _store(initializers[linear.weight], linear.weight_from(np.stack(rows)))
    if linear.bias.value:
        dense = consumer.linear.matrix(context.weight(consumer.linear.weight))
        shift = [w @ m - r @ m[s] for w, r, m, s in zip(dense, rows, means, stays, strict=True)]
        bias = initializers[linear.bias.value]
        assert bias.const_value is not None
        old = bias.const_value.numpy()
        _store(bias, old + (np.concatenate(shift) / linear.bias.scale).reshape(old.shape))


def _store(value: ir.Value, array: Floats) -> None:
    assert value.const_value is not None
    dtype = value.const_value.dtype.numpy()
    value.const_value = ir.Tensor(np.ascontiguousarray(array.astype(dtype)), name=value.name)
