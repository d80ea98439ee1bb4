"""Criteria from weights alone: norms, the geometric median, layer-adaptive magnitude.

A group's score is the sum over all its weights, of producers and of consumers. Each weight's scores are first divided
by their mean, so that a large layer does not decide alone (Fang et al. 2023, "DepGraph", section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.dependency import Group, Ranking
from edgeprune.graph import Floats
from edgeprune.importance.context import Context, by_rows, ranking_from, sum_over_units
from edgeprune.importance.registry import criterion


@criterion("l1", source="Li et al. 2017, Pruning Filters for Efficient ConvNets", needs_data=False)
def l1(context: Context) -> dict[str, Ranking]:
    """Sum of absolute weights."""
    return _rank(context, lambda rows: by_rows(rows, lambda part: np.abs(part).sum(axis=1)), power=1.0)


@criterion("l2", source="Fang et al. 2023, DepGraph", needs_data=False)
def l2(context: Context) -> dict[str, Ranking]:
    """Euclidean norm of the weights."""
    return _rank(context, _squares, power=0.5)


@criterion("fpgm", source="He et al. 2019, Filter Pruning via Geometric Median", needs_data=False)
def fpgm(context: Context) -> dict[str, Ranking]:
    """Sum of distances to the other channels' weights: a channel near the geometric median is replaceable."""
    return _rank(context, _distances, power=1.0)


@criterion("lamp", source="Lee et al. 2021, Layer-adaptive Sparsity for Magnitude-based Pruning", needs_data=False)
def lamp(context: Context) -> dict[str, Ranking]:
    """Squared norm divided by the sum of all squared norms that are not smaller: comparable between layers."""
    rankings = {}
    for group in context.groups:
        squares = _scores(context, group, _squares, 1.0)
        order = np.argsort(squares, kind="stable")
        remaining = np.cumsum(squares[order][::-1])[::-1]
        scores = np.empty_like(squares)
        scores[order] = squares[order] / np.maximum(remaining, np.finfo(np.float64).tiny)
        rankings[group.id] = ranking_from(scores)
    return rankings


def weight_energy(context: Context, group: Group) -> Floats:
    """Squared norm of each unit's weights, each weight's scores divided by their mean: shape (size,)."""
    return _scores(context, group, _squares, 1.0)


def _rank(context: Context, measure: Callable[[Floats], Floats], power: float) -> dict[str, Ranking]:
    return {group.id: ranking_from(_scores(context, group, measure, power)) for group in context.groups}


def _scores(context: Context, group: Group, measure: Callable[[Floats], Floats], power: float) -> Floats:
    """The measure summed over each unit's positions, normalised per weight, summed over weights: shape (size,)."""
    total = np.zeros(group.size)
    for unit, rows in context.weight_slices(group):
        scores = sum_over_units(unit, measure(rows), group.size) ** power
        total += scores / (scores.mean() or 1.0)
    return total


def _squares(rows: Floats) -> Floats:
    """Squared norm of each row."""
    return by_rows(rows, lambda part: np.einsum("ij,ij->i", part, part))


def _distances(rows: Floats) -> Floats:
    """Sum of Euclidean distances of each row to all others."""
    rows = rows.reshape(len(rows), -1).astype(np.float64)
    squares = (rows**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * rows @ rows.T
    return np.asarray(np.sqrt(np.maximum(distances, 0.0)).sum(axis=1))
