"""The scale of the BatchNormalization behind a channel: training drives it to zero if the channel does not matter.

Canonicalization folds BatchNormalization into the layer before it and notes the scale at that layer. Most exporters
write a network that is folded already. There the scale is lost, and the norm of the producer's weights is used: the
fold multiplied these weights by the scale over the standard deviation.
"""

from __future__ import annotations

import numpy as np

from edgeprune.dependency import Group, Ranking
from edgeprune.graph import Floats
from edgeprune.importance.context import Context, ranking_from, sum_over_units
from edgeprune.importance.magnitude import weight_energy
from edgeprune.importance.registry import criterion
from edgeprune.passes.canonicalize import FOLDED_SCALE


@criterion("bn-scale", source="Liu et al. 2017, Learning Efficient Convolutional Networks (Slimming)", needs_data=False)
def bn_scale(context: Context) -> dict[str, Ranking]:
    """Sum over producers of the absolute scale; the norm of the producers' weights if no scale is known."""
    by_weight = {}
    for node in context.model.graph:
        if len(node.inputs) > 1 and node.inputs[1] is not None:
            by_weight[str(node.inputs[1].name)] = node
    unfolded = {
        str(node.inputs[1].name)
        for node in context.model.graph
        if node.op_type == "BatchNormalization" and node.inputs[1] is not None
    }
    rankings = {}
    for group in context.groups:
        scores = np.zeros(group.size)
        for member in group.members:
            scale = None
            if member.value in unfolded:
                scale = context.weight(member.value)
            elif member.role == "producer" and member.value in by_weight:
                scale = by_weight[member.value].meta.get(FOLDED_SCALE)
            if scale is not None and len(scale) == len(member.unit):
                scores += sum_over_units(member.unit, np.abs(np.asarray(scale, np.float64)), group.size)
        rankings[group.id] = ranking_from(scores if scores.any() else _producer_norms(context, group))
    return rankings


def _producer_norms(context: Context, group: Group) -> Floats:
    """Norm of each unit's rows in the layers that produce it; of all its weights if no layer produces it."""
    total = np.zeros(group.size)
    for member in group.members:
        weight = context.weight(member.value) if member.role == "producer" else np.zeros(0)
        if weight.ndim < 2:
            continue
        rows = np.moveaxis(weight, member.axis, 0).reshape(len(member.unit), -1)
        norms = np.sqrt(sum_over_units(member.unit, (rows**2).sum(axis=1), group.size))
        total += norms / (norms.mean() or 1.0)
    return total if total.any() else weight_energy(context, group)
