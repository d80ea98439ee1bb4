"""Block optimal brain surgeon (OBS): the loss of removing units if all layers that read the group are refitted.

For a consumer ``y = W h + b`` with centred covariance C of h, removing the features P and refitting the others S costs

    tr(W_P [C_PP - C_PS C_SS^-1 C_SP] W_P') = tr(W_P (M_PP)^-1 W_P'),   M = (C + r I)^-1

and leaves ``W - W_P M_PP^-1 M_P:`` and ``M - M_:P M_PP^-1 M_P:`` (Hassibi & Stork 1993; blocks: Kurtic et al. 2022;
one sweep for every width: Kurtic et al. 2023, "ZipLM"). A unit's block consists of all its features in all its
consumers: kernel positions of a convolution, the columns of a head, every layer that reads a residual stream. Units are
removed in batches. A batch is chosen greedily; then units of the batch are swapped with others of little loss if that
gains.

The loss of a consumer is divided by the variance of its outputs. So losses are relative errors: they can be added over
consumers and compared between groups.

Whole heads are removed in the order of the Fisher information instead (`edgeprune.importance.gradient`): a head is a
large part of its layer, and the layer's squared error does not predict the change of the network's output well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeprune import graph
from edgeprune.dependency import Group, Ranking
from edgeprune.errors import BackendError, ModelError, PassError
from edgeprune.graph import Linear
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Consumer, Context, ranking_from
from edgeprune.importance.gradient import DRAWS, SAMPLES, fisher
from edgeprune.importance.magnitude import weight_energy
from edgeprune.importance.registry import criterion
from edgeprune.importance.removal_batch import Ints
from edgeprune.importance.surgeon import Surgeon
from edgeprune.importance.sweep import in_order, sweep
from edgeprune.recovery import Moments, Sampling, gather_rows, split_by_memory
from edgeprune.support import shared_cores

DAMPING = 1e-2
"""r as a fraction of the mean diagonal of C."""
GRAM_BYTES = 512 << 20
"""Covariances held at a time; more are gathered in further passes over the data."""
SHARED_BYTES = 512 << 20
"""Covariances that are kept for later calls."""
MOST_BATCHES = 40
"""Most batches of a group: a large group is cut in batches larger than the step."""
MOST_FEATURES = 6144
"""For a wider layer the correlations between its features are ignored."""
GRADIENT_MACS = 1.2e11
"""Multiply-accumulates spent on the gradients that order heads."""
LEAST_SAMPLES = 8
"""If these suffice for fewer samples, heads are ordered like all other units."""


@criterion("obs", source="Kurtic et al. 2023, ZipLM; Frantar & Alistarh 2022, OBC", needs_data=True)
@shared_cores()
def obs(context: Context) -> dict[str, Ranking]:
    """The loss of block OBS, relative to the output variance of each consumer and summed over consumers."""
    todo, rankings = rank_without_consumers(context)
    consumers = {group.id: context.consumers(group) for group in todo}
    heads = _order_heads(context, [g for g in todo if g.kind == "head"])
    while todo:
        wave, todo = next_wave(todo, consumers)
        linears = {c.linear.node: c.linear for group in wave for c in consumers[group.id]}
        moments = gather_moments(context, list(linears.values()))
        for group in wave:
            rankings[group.id] = rank_group(context, group, consumers[group.id], moments, heads.get(group.id))
    return rankings


def _order_heads(context: Context, heads: Sequence[Group]) -> Mapping[str, Ints]:
    """Group id -> order of removal by Fisher information; empty if there is no gradient or it takes too long."""
    if not heads:
        return {}
    data = context.data()
    shapes = {name: x.shape for name, x in next(iter(data.batches(1))).items()}
    macs = sum(graph.count_macs(graph.infer_shapes(graph.clone(context.model), shapes)).values())
    # One forward pass, and twice its work for the gradients, for every draw of labels.
    items = int(min(GRADIENT_MACS / (3 * DRAWS * max(macs, 1)), SAMPLES))
    if items < min(LEAST_SAMPLES, data.items):
        return {}
    try:
        found = fisher(replace(context, groups=tuple(heads), calibration=data.subset(items)))
    except (PassError, BackendError, ModelError):
        return {}
    return {group.id: found[group.id].order for group in heads}


def gather_moments(context: Context, linears: Sequence[Linear]) -> dict[str, Moments]:
    """Node -> covariances of the features. ``context.shared``, if given, keeps as many as ``SHARED_BYTES`` allows.

    Layers that share a weight have those of all their inputs together.
    """
    shared = {} if context.shared is None else context.shared
    missing = [linear for linear in linears if linear.node not in shared]
    by_weight = {linear.weight: Moments(linear.features > MOST_FEATURES, np.float32) for linear in missing}
    moments = {linear.node: by_weight[linear.weight] for linear in missing}
    if missing:
        sampling = Sampling(macs=2e10, most_rows=16_384, seed=context.seed)
        for linear, x in gather_rows(context.model, missing, context.data(), sampling):
            moments[linear.node].add(x)
        for fresh in by_weight.values():
            fresh.settle()
    found = moments | {linear.node: shared[linear.node] for linear in linears if linear.node in shared}
    if context.shared is not None:
        held = sum(m.xx.nbytes for m in shared.values())
        for node, fresh in moments.items():
            held += fresh.xx.nbytes
            if held > SHARED_BYTES:
                break
            context.shared[node] = fresh
    return found


def rank_group(
    context: Context,
    group: Group,
    consumers: Sequence[Consumer],
    moments: dict[str, Moments],
    order: Ints | None = None,
) -> Ranking:
    """The summed relative loss after each removal; the order of removal is chosen unless it is given."""
    surgeons = []
    for consumer in consumers:
        c_xx, _ = moments[consumer.linear.node].covariances()
        matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))
        if c_xx.ndim == 2:  # only variances
            energy = float(np.einsum("gok,gk->", matrix**2, c_xx))
        else:
            energy = float(np.einsum("gok,gok->", (matrix.astype(c_xx.dtype) @ c_xx).astype(np.float64), matrix))
        if energy <= 0:
            continue
        surgeons += [
            Surgeon.of(c_xx[g], matrix[g], consumer.unit[g], 1 / energy, DAMPING)
            for g in range(consumer.linear.groups)
            if (consumer.unit[g] >= 0).any()
        ]
    if not surgeons:
        return ranking_from(weight_energy(context, group))
    if order is not None:
        return in_order(surgeons, order)
    batch = max(context.step, -(-group.size // MOST_BATCHES))
    return sweep(surgeons, group.size, batch)


def next_wave(todo: list[Group], consumers: dict[str, list[Consumer]]) -> tuple[list[Group], list[Group]]:
    """As many groups as fit into the memory for covariances, at least one, and the rest."""
    seen: set[str] = set()

    def added_bytes(group: Group) -> int:
        fresh = {c.linear.node: c.linear for c in consumers[group.id] if c.linear.node not in seen}
        seen.update(fresh)
        return sum(4 * x.groups * min(x.features, MOST_FEATURES) ** 2 for x in fresh.values())

    return split_by_memory(todo, map(added_bytes, todo), GRAM_BYTES)
