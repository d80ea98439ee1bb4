"""Where the result of a normalisation may lose channels that its statistics are taken over.

A LayerNorm's input can lose no channel, or the mean and variance of the others would change; its result can, if the
positions that stay are picked from it. That pays where the result is combined, channel by channel, with something that
is computed for these channels alone, as in a spatial gating unit ``u * f(norm(v))``: the weights that make ``u`` go
too. Where nothing else makes these channels, only the inputs of the next layers would shrink, at the price of a copy:
there, result and input stay one axis.
"""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.closure import components
from edgeprune.dependency.relations import Relations


def settle_normalized_reads(rels: Relations, *, together: bool) -> None:
    """Tie the two sides of every pick, in place, but for those whose result is tied to channels made elsewhere.

    Args:
        rels: what the rules say.
        together: tie all of them.
    """
    if not rels.picks:
        return
    apart: set[int] = set() if together else _made_elsewhere(rels)
    rels.equal += [(a, b, node) for a, b, node in rels.picks if b not in apart]


def _made_elsewhere(rels: Relations) -> set[int]:
    """The results' factors that equalities tie to an axis which some node without a pick makes."""
    pairs = np.array([(a, b) for a, b, _ in rels.equal], dtype=np.int64).reshape(-1, 2)
    label = components(pairs[:, 0], pairs[:, 1], len(rels.sizes))
    results = {int(label[b]) for _, b, _ in rels.picks}
    picking = {node for _, _, node in rels.picks}
    found: set[int] = set()
    for index, node in enumerate(rels.nodes):
        if index in picking:
            continue
        made = {int(label[f]) for v in node.outputs for f in rels.axes.get(v.name or "", ())} & results
        computed = [v for v in node.inputs if v is not None and v.const_value is None]
        if made and computed:
            found |= made - {int(label[f]) for v in computed for f in rels.axes.get(v.name or "", ())}
    return {b for _, b, _ in rels.picks if int(label[b]) in found}
