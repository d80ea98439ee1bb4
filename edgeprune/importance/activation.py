"""Criteria that look at weights and at the mean and variance of what they read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.dependency import Ranking
from edgeprune.graph import Linear
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Context, Floats, ranking_from, sum_over_units
from edgeprune.importance.registry import criterion
from edgeprune.recovery import Sampling, gather_rows

SAMPLING = Sampling(products=0.0, rows_per_feature=0.0)
"""First and second moments of single features need no more patches for wider layers."""


@criterion("wanda", source="Sun et al. 2023, A Simple and Effective Pruning Approach for LLMs", needs_data=True)
def wanda(context: Context) -> dict[str, Ranking]:
    """Sum over outputs of |W_ij| times the root mean square of x_j."""
    return _rank(context, lambda matrix, mean, variance: np.abs(matrix).sum(axis=1) * np.sqrt(variance + mean**2))


@criterion("flap", source="An et al. 2023, Fluctuation-based Adaptive Structured Pruning", needs_data=True)
def flap(context: Context) -> dict[str, Ranking]:
    """Variance of x_j times the squared norm of what reads it: the loss if the bias alone makes up for the unit."""
    return _rank(context, lambda matrix, mean, variance: (matrix**2).sum(axis=1) * variance)


@criterion("vbp", source="Berisha et al. 2025, Variance-Based Pruning", needs_data=True)
def vbp(context: Context) -> dict[str, Ranking]:
    """Variance of the unit's activation where it is read."""
    return _rank(context, lambda matrix, mean, variance: variance)


def _rank(context: Context, measure: Callable[[Floats, Floats, Floats], Floats]) -> dict[str, Ranking]:
    """Rank by a measure of (W, mean, variance), shapes (groups, outputs, features) and (groups, features) twice.

    Each layer's scores are divided by their mean before layers are added; groups that no linear layer reads are
    ranked without one.
    """
    consumers = {group.id: context.consumers(group) for group in context.groups}
    linears = {c.linear.node: c.linear for found in consumers.values() for c in found}
    moments = _moments(context, list(linears.values()))
    rankings = rank_without_consumers(context, [g for g in context.groups if not consumers[g.id]])
    for group in (g for g in context.groups if consumers[g.id]):
        scores = np.zeros(group.size)
        for consumer in consumers[group.id]:
            mean, variance = moments[consumer.linear.node]
            matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))
            added = sum_over_units(consumer.unit, measure(matrix, mean, variance), group.size)
            scores += added / (added.mean() or 1.0)
        rankings[group.id] = ranking_from(scores)
    return rankings


def _moments(context: Context, linears: list[Linear]) -> dict[str, tuple[Floats, Floats]]:
    """Node -> mean and variance of each feature, shape (groups, features)."""
    rows: dict[str, int] = {}
    pilot: dict[str, Floats] = {}
    first: dict[str, Floats] = {}
    second: dict[str, Floats] = {}
    for linear, x in gather_rows(context.model, linears, context.data(), SAMPLING) if linears else ():
        node = linear.node
        if node not in rows:
            pilot[node] = x.mean(axis=1, dtype=np.float64)
            rows[node], first[node], second[node] = 0, np.zeros_like(pilot[node]), np.zeros_like(pilot[node])
        difference = x - pilot[node][:, None]
        rows[node] += x.shape[1]
        first[node] += difference.sum(axis=1)
        second[node] += (difference**2).sum(axis=1)
    return {
        node: (pilot[node] + first[node] / count, second[node] / count - (first[node] / count) ** 2)
        for node, count in rows.items()
    }
