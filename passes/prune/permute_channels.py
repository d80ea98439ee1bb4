"""Reorder channels so that 2:4 sparsity loses less. The new order costs nothing at inference.

A group of channels (`edgeprune.dependency.groups`) is reordered in all its tensors: the weights that produce the
channels, the weights that read them, and vectors in between. Only groups are used in which every channel occurs exactly
once on every axis. This excludes groups that pass a Concat, a partial Split or a grouped convolution.

Requires a canonical model and its analysis. Ensures the same outputs (checked, up to float rounding), names and shapes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph as graphs
from edgeprune.dependency import Group
from edgeprune.graph import Floats, Linear, find_linears, layer_matrix
from edgeprune.passes.verify import verify_equal
from edgeprune.quantization import InputMoments, best_order

Ints = NDArray[np.int64]

MOST_ROWS = 512
"""Most outputs and kernel positions of all readers by which an order is scored; evenly spread if there are more."""


def permute_channels(
    model: ir.Model,
    groups: Collection[Group],
    nodes: Collection[str],
    moments: Mapping[str, InputMoments] | None = None,
) -> ir.Model:
    """A copy of the model with channels reordered so that 2:4 sparsity of the named layers loses less.

    Args:
        model: canonical.
        groups: groups of its analysis.
        nodes: names of the layers that will be 2:4 sparse.
        moments: node -> moments of its inputs, by which weights are scored; without them the magnitude counts.

    Raises:
        ModelError: the result does not compute the same.
    """
    copy = graphs.clone(model)
    linears = find_linears(copy)
    by_weight = {linears[n].weight: linears[n] for n in nodes if n in linears}
    changed = False
    for group in groups:
        readers = [by_weight[m.value] for m in group.members if m.role == "consumer" and m.value in by_weight]
        if readers and group.size % 4 == 0 and all(_stands_once(m.unit, group.size) for m in group.members):
            order = best_order(_scores(copy, readers, group, moments or {}))
            if (order != np.arange(group.size)).any():
                _reorder(copy, group, order)
                changed = True
    if changed:
        verify_equal(model, copy)
    return copy


def _stands_once(unit: NDArray[np.int32], size: int) -> bool:
    return len(unit) == size and bool((np.sort(unit) == np.arange(size)).all())


def _scores(model: ir.Model, readers: list[Linear], group: Group, moments: Mapping[str, InputMoments]) -> Floats:
    """Score of every weight that reads a channel: shape (units, rows)."""
    found = []
    for layer in readers:
        matrix = np.abs(layer_matrix(model, layer)[0])
        if layer.node in moments:
            seen = moments[layer.node]
            variance = np.diagonal(seen.covariance[0]) if seen.exact else seen.covariance[0]
            matrix = matrix * np.sqrt(variance + seen.mean[0] ** 2)
        rows = matrix.reshape(layer.outputs * layer.taps, -1).T
        unit = next(m.unit for m in group.members if m.value == layer.weight and m.role == "consumer")
        found.append(rows[np.argsort(unit)] / max(float(rows.mean()), 1e-30))
    scores = np.concatenate(found, axis=1)
    return np.asarray(scores[:, :: -(-scores.shape[1] // MOST_ROWS)])


def _reorder(model: ir.Model, group: Group, order: Ints) -> None:
    """Move channel ``order[k]`` to the place of channel k, in every initializer of the group."""
    for member in group.members:
        value = model.graph.initializers.get(member.value)
        if value is None or value.const_value is None:
            continue
        array = value.const_value.numpy()
        place = np.argsort(member.unit)
        source = np.empty(group.size, dtype=np.int64)
        source[place] = place[order]
        value.const_value = ir.Tensor(np.ascontiguousarray(array.take(source, axis=member.axis)), name=value.name)
