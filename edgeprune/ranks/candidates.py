"""Where two layers of low rank are predicted to be faster than one, by the latency of the target alone.

Ranks are multiples of the target's channel step: between them two kernels take the same time. A convolution of several
pixels is left as it is: fewer channels serve it as well. So is a layer that is called on several inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune.graph import Linear
from edgeprune.latency import Format, Latency, Network, PairPrices, RankedLatency, is_sparse, with_rank
from edgeprune.passes.rank import factorable, layers_before

ALLOWED = ("auto", "none")
"""The values of ``--rank``."""
PAYS = 0.9
"""Two layers must take at most this share of the time of one."""
SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2)
"""The ranks that are tried, as shares of the smaller side of a layer."""
FORMATS = ("fp32", "bf16", "fp16", "int8")
"""Formats that both layers of low rank may have."""


@dataclass(frozen=True, eq=False)
class Ranked:
    """The blocks that may be of low rank.

    Attributes:
        latency: of the network, with the formats of low rank.
        layers: block -> the node that becomes two.
        ranks: block -> the ranks that pay in some format, ascending.
    """

    latency: RankedLatency
    layers: Mapping[int, str]
    ranks: Mapping[int, tuple[int, ...]]


def ranked(
    latency: Latency, network: Network, model: ir.Model, pairs: Callable[[Mapping[int, int]], PairPrices], step: int
) -> Ranked | None:
    """The blocks that are faster at some rank; None if none is.

    Args:
        latency: of the network.
        network: its blocks.
        model: the canonical model.
        pairs: prices two layers in place of one; takes block -> the block before it that takes the first factor.
        step: multiple to which ranks are cut.
    """
    found = {name: x for name, x in factorable(model).items() if isinstance(x, Linear) and x.taps == 1}
    twins = {b for blocks in network.twins for b in blocks}
    layers: dict[int, str] = {}
    for b, block in enumerate(network.blocks):
        inside = [name for name in block.nodes if name in found]
        if len(inside) == 1 and b not in twins and len(network.geometries[b].contractions) == 1:
            layers[b] = inside[0]
    block_of = {name: b for b, name in layers.items()}
    chained = layers_before(model)
    before = {b: block_of[chained[n]] for b, n in layers.items() if chained.get(n) in block_of}
    prices = pairs(before)
    paying = {b: _paying(latency, prices, b, found[name], step) for b, name in layers.items()}
    paying = {b: of for b, of in paying.items() if of}
    if not paying:
        return None
    formats = {b: tuple(with_rank(f, r) for f, ranks in of.items() for r in ranks) for b, of in paying.items()}
    ranks = {b: tuple(sorted({r for some in of.values() for r in some})) for b, of in paying.items()}
    return Ranked(RankedLatency(latency, prices, formats), {b: layers[b] for b in paying}, ranks)


def _paying(latency: Latency, prices: PairPrices, block: int, layer: Linear, step: int) -> dict[Format, list[int]]:
    """Format -> the ranks at which two layers are fast enough."""
    side, sizes = min(layer.features, layer.outputs), latency.sizes
    tried = sorted({max(step, round(share * side / step) * step) for share in SHARES})
    found: dict[Format, list[int]] = {}
    for fmt in latency.formats(block):
        if fmt in FORMATS and not is_sparse(fmt):
            fast = [r for r in tried if r < side and prices.ratio(block, fmt, r, sizes) <= PAYS]
            if fast:
                found[fmt] = fast
    return found
