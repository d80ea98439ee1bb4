"""The change of the network's output when a unit is zeroed: one forward pass per unit, no assumptions.

Dery et al. 2024, "Everybody Prune Now" (Bonsai), and the oracle of Molchanov et al. 2017 rank in this way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.calibration import StatisticsRuntime, outputs_of, samples_first
from edgeprune.dependency import Group, Ranking
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
    shapes = {name: x.shape for name, x in batches[0].items()}
    gated = with_gates(context, groups, shapes)
    runner = StatisticsRuntime().load(graph.to_bytes(gated.model))
    batches = [feeds for feeds in batches if all(feeds[name].shape == shape for name, shape in shapes.items())]

    def outputs(gates: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        found = [runner.run({**feeds, **gates}) for feeds in batches]
        axes = (data.axes.outputs.get(str(value.name)) for value in gated.model.graph.outputs)
        return [samples_first(same, axis) for same, axis in zip(zip(*found, strict=True), axes, strict=True)]

    reference = outputs(gated.ones())
    kinds = outputs_of(context.model, context.data())
    for group in groups:
        closed = (_closed(context, gated, group, unit) for unit in range(group.size))
        rankings[group.id] = ranking_from(
            np.array([output_error(reference, outputs(gates), kinds) for gates in closed])
        )
    return rankings


def _closed(context: Context, gated: Gated, group: Group, unit: int) -> dict[str, NDArray[Any]]:
    """Gates that remove one unit of a group."""
    gates: dict[str, NDArray[Any]] = dict(gated.ones())
    for consumer in context.consumers(group):
        gate = gated.gates.get(consumer.linear.node)
        if gate is not None:
            channels = np.moveaxis(gates[gate], consumer.linear.input_axis, -1)
            channels[..., gated.channels(consumer) == unit] = 0
    return gates
