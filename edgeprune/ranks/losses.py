"""The loss of low rank at the output of the network, per block and rank, measured on a few unlabelled samples.

What a layer's own outputs lose at a rank follows from its principal directions. What that costs at the network's output
is tried at one rank of each layer, for ranges of layers together (`edgeprune.search.format_losses`). The other ranks of
a layer are in proportion to what its own outputs lose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from edgeprune.build import ModelBuilder
from edgeprune.calibration import COVARIANCES, FORMAT_SPLITS, Calibration, prices_of
from edgeprune.latency import Format, Network
from edgeprune.passes.rank import Factors, factor_layers, principals
from edgeprune.recovery import Probe
from edgeprune.search import format_losses

MOST_LOST = 0.25
"""A rank at which a layer loses more than this share of the variance of its outputs is not tried."""

_LOW: Format = "low rank"


def rank_losses(
    network: Network,
    builder: ModelBuilder,
    data: Calibration,
    layers: Mapping[int, str],
    ranks: Mapping[int, Sequence[int]],
    progress: Callable[[float], None] = lambda fraction: None,
) -> dict[int, dict[int, float]]:
    """Block -> rank -> loss, unitless, as given by `edgeprune.recovery.output_error`.

    Args:
        network: the blocks.
        builder: of the network.
        data: samples.
        layers: block -> the node that becomes two.
        ranks: block -> ranks; those at which a layer loses too much are not in the result.
        progress: called with the fraction done.
    """
    dense, lost, tried = builder.dense, dict[int, dict[int, float]](), dict[int, int]()
    factors: dict[str, Factors] = {}
    blocks = {name: b for b, name in layers.items()}
    few = data.subset(COVARIANCES.of(network.macs))
    for name, found in principals(dense, list(blocks), few, builder.threads):
        b = blocks[name]
        shares = {r: found.lost(r) for r in ranks[b]}
        lost[b] = {r: share for r, share in shares.items() if share <= MOST_LOST}
        if lost[b]:
            tried[b] = min(lost[b])
            factors[name] = found.factors(tried[b])
    if not tried:
        return {}
    progress(1 / 3)
    items = prices_of(data.outputs).of(network.macs)
    probe = Probe(dense, data, items, builder.threads)

    def trial(chosen: Mapping[int, Format]) -> float:
        return probe.error(factor_layers(dense, {layers[b]: factors[layers[b]] for b in chosen}))

    available = [("whole", _LOW) if b in tried else ("whole",) for b in range(len(network.blocks))]
    splits = FORMAT_SPLITS.of(2 * items * network.macs)
    losses = format_losses(available, "whole", trial, splits=splits)
    progress(1.0)
    return {
        b: {r: losses[b][_LOW] * share / max(lost[b][tried[b]], 1e-12) for r, share in lost[b].items()} for b in tried
    }
