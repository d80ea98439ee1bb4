"""Criteria from weights and from the mean and variance of the activations that they multiply."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.dependency import Ranking
from edgeprune.graph import Floats
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Context, ranking_from, sum_over_units
from edgeprune.importance.registry import criterion
from edgeprune.recovery import Moments, Sampling, gather_rows

SAMPLING = Sampling(macs=0.0, rows_per_feature=0.0)
"""Means and variances of single features need no more rows for wider layers."""


@criterion("wanda", source="Sun et al. 2023, A Simple and Effective Pruning Approach for LLMs", needs_data=True)
def wanda(context: Context) -> dict[str, Ranking]:
    """Sum over outputs of |W_ij| times the root mean square of x_j."""
    return _rank(context, lambda matrix, mean, variance: np.abs(matrix).sum(axis=1) * np.sqrt(variance + mean**2))


@criterion("flap", source="An et al. 2023, Fluctuation-based Adaptive Structured Pruning", needs_data=True)
def flap(context: Context) -> dict[str, Ranking]:
    """Variance of x_j times the squared norm of its weights: the loss if the bias alone compensates for the unit."""
    return _rank(context, lambda matrix, mean, variance: (matrix**2).sum(axis=1) * variance)


@criterion("vbp", source="Berisha et al. 2025, Variance-Based Pruning", needs_data=True)
def vbp(context: Context) -> dict[str, Ranking]:
    """Variance of the unit's activation at the input of the layers that read it."""
    return _rank(context, lambda matrix, mean, variance: variance)


def _rank(context: Context, measure: Callable[[Floats, Floats, Floats], Floats]) -> dict[str, Ranking]:
    """Rank by a measure of (W, mean, variance), shapes (groups, outputs, features) and (groups, features) twice.

    Each layer's scores are divided by their mean before the scores of several layers are added.
    """
    groups, rankings = rank_without_consumers(context)
    linears = {c.linear.node: c.linear for group in groups for c in context.consumers(group)}
    moments = {node: Moments(diagonal=True, dtype=np.float64) for node in linears}
    for linear, x in gather_rows(context.model, list(linears.values()), context.data(), SAMPLING) if linears else ():
        moments[linear.node].add(x)
    for group in groups:
        scores = np.zeros(group.size)
        for consumer in context.consumers(group):
            found = moments[consumer.linear.node]
            mean, variance = found.means()[0], found.covariances()[0]
            matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))
            added = sum_over_units(consumer.unit, measure(matrix, mean, variance), group.size)
            scores += added / (added.mean() or 1.0)
        rankings[group.id] = ranking_from(scores)
    return rankings
