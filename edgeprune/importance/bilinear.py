"""Groups that no linear layer contracts, above all the query/key dimensions of attention.

A logit is a sum over dimensions of q_d k_d; removing dimension d loses E[q_d^2] E[k_d^2] of its energy, summed over
heads, where queries and keys are independent (CORP).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import IntermediateOutputs
from edgeprune.dependency import Group, Ranking
from edgeprune.importance.context import Context, Floats, ranking_from, sum_over_units
from edgeprune.importance.magnitude import weight_energy
from edgeprune.recovery import require_finite, sized_batches

Place = tuple[str, NDArray[np.int32]]
"""An activation's name, and the unit at each position of its contracted axis."""

SAMPLES = 64
"""Second moments of single dimensions need no more samples."""


def rank_without_consumers(context: Context, groups: Sequence[Group]) -> dict[str, Ranking]:
    """Rank by the energy of products where there are any, and of the weights elsewhere."""
    products = product_energy(context, groups)
    return {g.id: ranking_from(products[g.id] if g.id in products else weight_energy(context, g)) for g in groups}


def product_energy(context: Context, groups: Sequence[Group]) -> dict[str, Floats]:
    """Group id -> E[q_d^2] E[k_d^2] of each unit, shape (size,), for groups that a product of activations contracts."""
    pairs = {group.id: found for group in groups if (found := _contracted(context.model, group))}
    names = {name for found in pairs.values() for pair in found for name, _ in pair}
    if not names:
        return {}
    squares: dict[str, Floats] = {name: np.zeros(()) for name in names}
    count = 0
    intermediate = IntermediateOutputs(context.model, sorted(names))
    for feeds, items in sized_batches(context.data().subset(SAMPLES), intermediate):
        for name, value in intermediate.run(feeds).items():
            require_finite(value, name)
            mean = (value.astype(np.float64) ** 2).mean(axis=0)
            squares[name] = squares[name] + items * mean
        count += items
    energies = {}
    for group in groups:
        total = np.zeros(group.size)
        for (left, left_unit), (right, _) in pairs.get(group.id, ()):
            # Averaged over positions, (heads, positions, dim) and (heads, dim, positions) match.
            product = (squares[left] / count).mean(axis=-2) * (squares[right] / count).mean(axis=-1)
            total += sum_over_units(left_unit, product.reshape(-1, product.shape[-1]).sum(axis=0), group.size)
        if group.id in pairs:
            energies[group.id] = total
    return energies


def _contracted(model: ir.Model, group: Group) -> list[tuple[Place, Place]]:
    """For every MatMul of two activations that contracts the group: its operands' names and units."""
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
