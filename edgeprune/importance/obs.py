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

from edgeprune.calibration import COVARIANCES
from edgeprune.dependency import Group, Ranking
from edgeprune.errors import BackendError, ModelError, PassError
from edgeprune.graph import Linear, weight_bytes
from edgeprune.importance.bilinear import rank_without_consumers
from edgeprune.importance.context import Consumer, Context, ranking_from
from edgeprune.importance.gradient import DRAWS, SAMPLES, fisher
from edgeprune.importance.magnitude import weight_energy
from edgeprune.importance.reader_refits import ReaderRefits, refit_widths, removed_at_once
from edgeprune.importance.registry import criterion
from edgeprune.importance.removal_batch import Ints
from edgeprune.importance.surgeon import Surgeon
from edgeprune.importance.sweep import Seen, in_order, sweep
from edgeprune.recovery import Moments, Sampling, gather_rows, split_by_memory
from edgeprune.support import shared_cores

DAMPING = 1e-2
"""r as a fraction of the mean diagonal of C."""
GRAM_BYTES, GRAM_SHARE = 512 << 20, 4
"""Covariances held at a time, or this many times the bytes of the weights, if that is more; other covariances are
gathered in further passes over the data."""
SHARED_BYTES = 512 << 20
"""Covariances that are kept for later calls."""
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
    most_bytes = max(GRAM_BYTES, GRAM_SHARE * weight_bytes(context.model))
    while todo:
        wave, todo = next_wave(todo, consumers, most_bytes)
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
    # One forward pass, and twice its work for the gradients, for every draw of labels.
    items = int(min(GRADIENT_MACS / (3 * DRAWS * max(context.macs, 1)), SAMPLES))
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
        few = context.data().subset(COVARIANCES.of(context.macs))
        for linear, x in gather_rows(context.model, missing, few, sampling):
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
    layers: dict[str, list[Surgeon]] = {}
    for consumer in consumers:
        c_xx, _ = moments[consumer.linear.node].covariances()
        matrix = consumer.linear.matrix(context.weight(consumer.linear.weight))
        if c_xx.ndim == 2:  # only variances
            energy = float(np.einsum("gok,gk->", matrix**2, c_xx))
        else:
            energy = float(np.einsum("gok,gok->", (matrix.astype(c_xx.dtype) @ c_xx).astype(np.float64), matrix))
        if energy <= 0:
            continue
        states = [
            Surgeon.of(c_xx[g], matrix[g], consumer.unit[g], 1 / energy, DAMPING)
            for g in range(consumer.linear.groups)
            if (consumer.unit[g] >= 0).any()
        ]
        if states:
            layers[consumer.linear.node] = states
    surgeons = [surgeon for states in layers.values() for surgeon in states]
    if not surgeons:
        return ranking_from(weight_energy(context, group))
    batch = removed_at_once(group.size, context.step)
    seen = _keeper(context, group, consumers, moments, layers, batch)
    return sweep(surgeons, group.size, batch, seen) if order is None else in_order(surgeons, order, seen)


def _keeper(
    context: Context,
    group: Group,
    consumers: Sequence[Consumer],
    moments: Mapping[str, Moments],
    layers: Mapping[str, Sequence[Surgeon]],
    batch: int,
) -> Seen:
    """Keeps the refits of the readers at a few widths, if they are wanted."""
    if context.refits is None:
        return lambda _: None
    whole = {c.linear.node: c.linear.groups for c in consumers}
    kept = {node: states for node, states in layers.items() if len(states) == whole[node]}
    refits = ReaderRefits({node: moments[node].means()[0] for node in whole})
    context.refits[group.id] = refits
    widths = refit_widths(group.size, batch)
    return lambda left: refits.keep(kept, len(left)) if len(left) in widths else None


def next_wave(
    todo: list[Group], consumers: dict[str, list[Consumer]], most_bytes: int
) -> tuple[list[Group], list[Group]]:
    """As many groups as fit into the memory for covariances, at least one, and the rest."""
    seen: set[str] = set()

    def added_bytes(group: Group) -> int:
        fresh = {c.linear.node: c.linear for c in consumers[group.id] if c.linear.node not in seen}
        seen.update(fresh)
        return sum(4 * x.groups * min(x.features, MOST_FEATURES) ** 2 for x in fresh.values())

    return split_by_memory(todo, map(added_bytes, todo), most_bytes)
