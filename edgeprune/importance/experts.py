"""Scores of the experts of a mixture of experts.

Lasby et al. 2025, "REAP the Experts": the mean over tokens of the router's weight times the norm of an expert's output.
Where the outputs are never there one by one, as in an Einsum that weights and adds them, the norm of the expert's
weights takes the place of its output's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency import Group
from edgeprune.graph import Floats, constant, input_at, ints_attribute, is_op
from edgeprune.importance.context import Context, sum_over_units
from edgeprune.importance.magnitude import weight_energy
from edgeprune.recovery import activations

SAMPLES = 64
"""Enough samples for means over tokens."""


@dataclass(frozen=True, eq=False)
class _Watched:
    """A value with an axis of experts, and whether the last axis is their outputs'; else it is the router's weights."""

    value: str
    axis: int
    unit: NDArray[np.int32]
    has_outputs: bool


def expert_scores(context: Context, groups: Sequence[Group]) -> dict[str, Floats]:
    """Group id -> score of each expert, shape (size,); groups that are no experts have none."""
    watched = {g.id: found for g in groups if (found := _watched(context.model, g)) is not None}
    if not watched:
        return {}
    sums = {name: np.zeros(1) for name in watched}
    count = 0
    names = sorted({w.value for w in watched.values()})
    for values, items in activations(context.model, names, context.data().subset(SAMPLES)):
        for name, w in watched.items():
            each = np.moveaxis(values[w.value].astype(np.float64), w.axis, 0)
            each = np.linalg.norm(each, axis=-1) if w.has_outputs else each
            sums[name] = sums[name] + each.reshape(len(each), -1).mean(axis=1) * items
        count += items
    scores: dict[str, Floats] = {}
    for group in groups:
        if group.id in watched:
            w = watched[group.id]
            scores[group.id] = sum_over_units(w.unit, sums[group.id] / max(1, count), group.size)
            if not w.has_outputs:
                scores[group.id] *= np.sqrt(weight_energy(context, group))
    return scores


def _watched(model: ir.Model, group: Group) -> _Watched | None:
    """What to watch of a group of experts: their weighted outputs before they are added, or the router's weights."""
    members = {m.value: m for m in group.members if m.role == "activation"}
    routed = False
    found: _Watched | None = None
    for node in model.graph:
        member = members.get(str(node.outputs[0].name))
        rank = len(node.outputs[0].shape or ())
        if is_op(node, "Softmax") and member is not None and member.axis == rank - 1:
            routed = True
        if routed and member is not None and member.axis == rank - 1:
            found = _Watched(member.value, member.axis, member.unit, False)
        source = node.inputs[0] if node.inputs else None
        added = None if source is None else members.get(str(source.name))
        if routed and added is not None and is_op(node, "ReduceSum") and source is not None:
            over = ints_attribute(node, "axes")
            if over is None and (array := constant(input_at(node, 1))) is not None:
                over = tuple(int(k) for k in array)
            last = len(source.shape or ()) - 1
            if over is not None and [k % (last + 1) for k in over] == [added.axis] and added.axis < last:
                return _Watched(added.value, added.axis, added.unit, True)
    return found
