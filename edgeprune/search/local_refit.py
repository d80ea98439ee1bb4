"""Cut one group and refit its consumers from the inputs of the dense network: the quick form of compensation.

The refit is a closed form from covariances that are gathered once for all widths (the formula of CORP and OBC):

    W_S <- W_S + W_P B      b <- b + W_P (m_P - B m_S)      B = C_PS (C_SS + r I)^-1

The full compensation works through the compressed network layer by layer. This one only prices single widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency import Analysis, Group
from edgeprune.graph import Linear, find_linears, layers_by_weight, shift_outputs
from edgeprune.importance import DAMPING, Consumer, Context, gather_moments, next_wave
from edgeprune.passes.prune import prune_channels
from edgeprune.recovery import Moments

Floats = NDArray[Any]


def waves(context: Context) -> Iterator[tuple[Sequence[Group], Mapping[str, Moments]]]:
    """Groups with the covariances of the layers that read them, as many at once as memory allows."""
    consumers = {g.id: context.consumers(g) for g in context.groups}
    todo = list(context.groups)
    while todo:
        wave, todo = next_wave(todo, consumers)
        linears = {c.linear.node: c.linear for g in wave for c in consumers[g.id]}
        yield wave, gather_moments(context, list(linears.values())) if linears else {}


def cut_and_refit(
    context: Context, analysis: Analysis, group: Group, kept: NDArray[np.int64], moments: Mapping[str, Moments]
) -> ir.Model:
    """The model with this group alone cut to the kept units, and its linear consumers refitted."""
    pruned = prune_channels(context.model, analysis, {group.id: kept})
    linears = find_linears(pruned)
    together = dict(layers_by_weight(pruned, linears.values()))
    stays = np.zeros(group.size + 1, dtype=bool)
    stays[kept] = stays[-1] = True  # position -1 stands for channels that belong to no unit
    for consumer in context.consumers(group):
        linear = linears.get(consumer.linear.node)
        fitted = moments.get(consumer.linear.node)
        if linear is None or fitted is None:
            continue
        twins = together.pop(linear.weight, None)
        if twins is None:  # refitted already, with the first of the layers that share it, or no one fit serves all
            continue
        if not len(kept):  # the branch is dropped: its mean stays
            matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))[0]
            for twin in twins:
                shift_outputs(pruned, twin, matrix @ fitted.means()[0][0])
        else:
            _refit(context, pruned, linear, consumer, stays[consumer.unit], fitted)
    return pruned


def _refit(
    context: Context, pruned: ir.Model, linear: Linear, consumer: Consumer, stays: NDArray[np.bool_], moments: Moments
) -> None:
    dense = consumer.linear.matrix(context.weight(consumer.linear.weight))
    c_xx, _ = moments.covariances()
    mean, _ = moments.means()
    kept_outputs = linear.outputs == consumer.linear.outputs and linear.groups == consumer.linear.groups
    if c_xx.ndim == 2 or not kept_outputs:
        return
    rows, shift = zip(*(_solve(dense[g], c_xx[g], mean[g], stays[g]) for g in range(linear.groups)), strict=True)
    initializers = pruned.graph.initializers
    _store(initializers[linear.weight], linear.weight_from(np.stack(rows)))
    if linear.bias.value:
        bias = initializers[linear.bias.value]
        assert bias.const_value is not None
        old = bias.const_value.numpy()
        _store(bias, old + (np.concatenate(shift) / linear.bias.scale).reshape(old.shape))


def _solve(w: Floats, c: Floats, mean: Floats, stays: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    from scipy.linalg import cho_factor, cho_solve

    goes = ~stays
    c_ss = c[np.ix_(stays, stays)]
    c_ss = c_ss + DAMPING * max(float(np.trace(c_ss)) / max(len(c_ss), 1), 1e-12) * np.eye(len(c_ss))
    b = cho_solve(cho_factor(c_ss), c[np.ix_(stays, goes)]).T
    return w[:, stays] + w[:, goes] @ b, w[:, goes] @ (mean[goes] - b @ mean[stays])


def _store(value: ir.Value, array: Floats) -> None:
    assert value.const_value is not None
    dtype = value.const_value.dtype.numpy()
    value.const_value = ir.Tensor(np.ascontiguousarray(array.astype(dtype)), name=value.name)
