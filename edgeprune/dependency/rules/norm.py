"""Normalizations and softmax. A normalized axis is a statistic axis: removing a position changes the others."""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.dims import LINEAR, NodeView, Rel, rule
from edgeprune.dependency.repair import Repair, repair
from edgeprune.dependency.rules.axis_text import axes
from edgeprune.dependency.rules.router import is_router
from edgeprune.errors import RuleError

_SCALED = ((1,), (2,))
_WHY = "a normalisation's batch or spatial axis"


@rule("BatchNormalization")
def batch_norm(n: NodeView) -> Rel:
    """Channel by channel, with stored statistics; training mode is not supported."""
    if n.attr("training_mode", 0) or n.outputs > 1:
        raise RuleError("training mode is not supported")
    return Rel("n c ., c, c, c, c -> n c .", zeros=_SCALED, why=_WHY)


@rule("InstanceNormalization")
def instance_norm(n: NodeView) -> Rel:
    """Channel by channel, with statistics over the spatial axes."""
    rank = n.rank(0)
    spatial = " ".join(f"~s{k}" for k in range(2, rank))
    return Rel(f"n c {spatial}, c, c -> n c {spatial}", zeros=_SCALED)


@rule("GroupNormalization")
def group_norm(n: NodeView) -> Rel:
    """Statistics over the channels of a group: whole groups can be removed."""
    groups = n.attr("num_groups")
    whole = "n (g ~x) ."
    scale = "(g ~x)" if n.opset >= 21 else "g"
    return Rel(f"{whole}, {scale}, {scale} -> {whole}", {"g": groups}, zeros=_SCALED, why=_WHY)


@repair("GroupNormalization")
def group_norm_groups(fix: Repair) -> None:
    """Set the number of remaining groups; all of them must keep the same number of channels."""
    groups = fix.view.attr("num_groups")
    kept = fix.kept(0, 1)
    if kept is None:
        return
    _, left = np.unique(kept // (fix.old_length(0, 1) // groups), return_counts=True)
    if (left != left[0]).any():
        raise RuleError("some groups would keep more channels than others")
    fix.set_attr("num_groups", len(left))


def _last_axes(n: NodeView, operands: int) -> Rel:
    rank = n.rank(0)
    first = n.axis(n.attr("axis", -1), rank)
    whole = axes(rank, {k: f"~c{k}" for k in range(first, rank)})
    scale = " ".join(f"~c{k}" for k in range(first, rank))
    terms = [whole] + [scale] * (operands - 1)
    for k in range(1, operands):
        if n.has(k) and n.rank(k) != rank - first:
            raise RuleError(f"operand {k} does not have the normalised shape")
    zeros = tuple((k,) for k in range(1, operands))
    statistic = f"{axes(first)} .".strip()
    if first == rank - 1:
        result = axes(rank, {first: "+d"})
        text = f"{', '.join(terms)} -> {result}, {statistic}, {statistic}"
        return Rel(text, zeros=zeros, normalized_reads=((f"c{first}", "d"),))
    return Rel(f"{', '.join(terms)} -> {whole}, {statistic}, {statistic}", zeros=zeros)


@rule("LayerNormalization")
def layer_norm(n: NodeView) -> Rel:
    """Statistics over the last axes."""
    return _last_axes(n, 3)


@rule("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(n: NodeView) -> Rel:
    """As LayerNormalization, without mean and bias."""
    return _last_axes(n, 2)


@repair("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def read_normalized(fix: Repair) -> None:
    """If only the result loses positions, normalize over all positions and gather the remaining ones after it."""
    last = fix.view.rank(0) - 1
    kept = fix.out_kept(0, last)
    if kept is not None and fix.kept(0, last) is None:
        fix.gather_after(last, kept)


@rule("LpNormalization")
def lp_norm(n: NodeView) -> Rel:
    """Divided by the norm along one axis: a position that is zero adds nothing to the norm."""
    rank = n.rank(0)
    k = n.axis(n.attr("axis", -1), rank)
    whole = axes(rank, {k: "c"})
    return Rel(f"{whole} -> {whole}", zeros=LINEAR, sums=(("c", 0, k),))


@rule("MeanVarianceNormalization")
def mean_variance_norm(n: NodeView) -> Rel:
    """Statistics over the given axes."""
    rank = n.rank(0)
    over = {n.axis(k, rank) for k in n.attr("axes", [0, 2, 3])}
    whole = axes(rank, {k: f"~c{k}" for k in over})
    return Rel(f"{whole} -> {whole}")


@rule("LRN")
def local_response_norm(n: NodeView) -> Rel:
    """Divided by a sum over neighbouring channels."""
    return Rel("n !c . -> n !c .", why="a response is normalised over neighbouring channels")


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(n: NodeView) -> Rel:
    """Normalized along one axis; before opset 13 along all axes from the given one. A router's are a statistic."""
    rank = n.rank(0)
    over = {n.axis(n.attr("axis", -1), rank)} if n.opset >= 13 else set(range(n.axis(n.attr("axis", 1), rank), rank))
    routes = n.op == "Softmax" and len(over) == 1 and is_router(n.node.inputs[0], next(iter(over)))
    whole = axes(rank, {k: f"{'~' if routes else '!'}c{k}" for k in over})
    return Rel(f"{whole} -> {whole}", why=f"{n.op} normalises along this axis")
