"""Rankings of groups that no linear layer reads, above all the query/key dimensions of attention.

An attention logit is a sum of q_d k_d over the dimensions d. Removing dimension d changes the logits of one head by the
outer product of q_d and k_d over the positions, whose energy is |q_d|^2 |k_d|^2. CORP takes the expectations of the two
factors over the samples apart; here they are multiplied sample by sample, so it does not matter which axis counts the
samples: some exports put the time first, and windowed attention puts the windows there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency import Group, Ranking
from edgeprune.graph import Floats
from edgeprune.importance.context import Context, ranking_from, sum_over_units
from edgeprune.importance.experts import expert_scores
from edgeprune.importance.magnitude import weight_energy
from edgeprune.recovery import activations

Place = tuple[str, NDArray[np.int32]]
"""An activation's name, and the unit at each position of its contracted axis."""

SAMPLES = 64
"""Enough samples for second moments of single dimensions."""


def rank_without_consumers(context: Context) -> tuple[list[Group], dict[str, Ranking]]:
    """The groups that linear layers read, which a criterion has to rank, and the rankings of all other groups.

    The others are ranked by the energy of the MatMul of two activations that contracts them, and experts by what they
    add to the sum of all. If there is neither, they are ranked by the energy of their weights.
    """
    read = [g for g in context.groups if context.consumers(g)]
    rest = [g for g in context.groups if not context.consumers(g)]
    energy = matmul_energy(context, rest) | expert_scores(context, rest)
    return read, {g.id: ranking_from(energy[g.id] if g.id in energy else weight_energy(context, g)) for g in rest}


def matmul_energy(context: Context, groups: Sequence[Group]) -> dict[str, Floats]:
    """Group id -> energy of each unit in a sample's logits, averaged over positions and summed over heads.

    Each has shape (size,). Only groups that a MatMul of two activations contracts have one.
    """
    pairs = {group.id: found for group in groups if (found := _contracted(context.model, group))}
    names = {name for found in pairs.values() for pair in found for name, _ in pair}
    if not names:
        return {}
    energies = {group.id: np.zeros(group.size) for group in groups if group.id in pairs}
    count = 0
    for values, items in activations(context.model, sorted(names), context.data().subset(SAMPLES)):
        squares = {name: value.astype(np.float64) ** 2 for name, value in values.items()}
        for group in groups:
            for (left, left_unit), (right, _) in pairs.get(group.id, ()):
                # Averaged over positions, (..., positions, dim) and (..., dim, positions) match.
                energy = squares[left].mean(axis=-2) * squares[right].mean(axis=-1)
                total = energy.reshape(-1, energy.shape[-1]).sum(axis=0)
                energies[group.id] += sum_over_units(left_unit, total, group.size)
        count += items
    return {name: energy / max(1, count) for name, energy in energies.items()}


def _contracted(model: ir.Model, group: Group) -> list[tuple[Place, Place]]:
    """For every MatMul of two activations that contracts the group: names and units of its operands."""
    units = {(member.value, member.axis): member.unit for member in group.members if member.role == "activation"}
    found = []
    for node in model.graph:
        ranks = [len(v.shape) if v is not None and v.shape is not None else 0 for v in node.inputs]
        if node.op_type != "MatMul" or ranks[0] != ranks[1] or ranks[0] < 3:
            continue
        left, right = (str(value.name) for value in node.inputs if value is not None)
        places = (left, ranks[0] - 1), (right, ranks[1] - 2)
        if all(place in units for place in places):
            found.append(((places[0][0], units[places[0]]), (places[1][0], units[places[1]])))
    return found
