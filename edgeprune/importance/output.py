"""The change of the network's output when a unit is zeroed: one forward pass per unit, no assumptions.

Dery et al. 2024, "Everybody Prune Now" (Bonsai), and the oracle of Molchanov et al. 2017 rank in this way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.backends import OnnxRuntime, Runner
from edgeprune.dependency import Group, Ranking
from edgeprune.graph import Floats
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Context, ranking_from
from edgeprune.importance.gates import Gated, with_gates
from edgeprune.importance.registry import criterion
from edgeprune.recovery import output_error

SAMPLES = 8
"""One pass per unit is slow; these few samples are enough to tell which units matter."""


@criterion("output", source="Dery et al. 2024, Everybody Prune Now (Bonsai); Molchanov et al. 2017", needs_data=True)
def output(context: Context) -> dict[str, Ranking]:
    """Output error (divergence of class scores, relative error elsewhere) with the unit zeroed."""
    groups, rankings = rank_without_consumers(context)
    if not groups:
        return rankings
    data = context.data().subset(SAMPLES)
    batches = list(data.batches(SAMPLES))
    gated = with_gates(context, groups, {name: x.shape for name, x in batches[0].items()})
    runner = OnnxRuntime().load(graph.to_bytes(gated.model))
    batches = [feeds for feeds in batches if all(len(x) == gated.samples for x in feeds.values())]
    reference = _outputs(runner, batches, gated.ones())
    for group in groups:
        rankings[group.id] = ranking_from(_scores(context, gated, runner, batches, reference, group))
    return rankings


def _scores(
    context: Context,
    gated: Gated,
    runner: Runner,
    batches: list[dict[str, NDArray[Any]]],
    reference: list[NDArray[Any]],
    group: Group,
) -> Floats:
    scores = np.zeros(group.size)
    for index in range(group.size):
        gates = gated.ones()
        for consumer in context.consumers(group):
            gate = gated.gates.get(consumer.linear.node)
            if gate is not None:
                closed = np.moveaxis(gates[gate], consumer.linear.input_axis, -1)
                closed[..., gated.channels(consumer) == index] = 0
        scores[index] = output_error(reference, _outputs(runner, batches, gates))
    return scores


def _outputs(runner: Runner, batches: list[dict[str, NDArray[Any]]], gates: dict[str, Any]) -> list[NDArray[Any]]:
    found = [runner.run({**feeds, **gates}) for feeds in batches]
    return [np.concatenate([np.atleast_1d(o) for o in outputs]) for outputs in zip(*found, strict=True)]
