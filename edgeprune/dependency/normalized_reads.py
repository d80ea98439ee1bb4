"""Normalizations whose result may lose channels that their statistics need: reads of a normalized value.

The input of a LayerNormalization can lose no channel, because the mean and variance of the others would change. Its
result can, if a Gather reads the channels that are kept. This saves work if the result is combined channel by channel
with another value of these channels, as in a spatial gating unit ``u * f(norm(v))``: the weights that make ``u`` are
cut too. If no other node makes these channels, only the inputs of the next layers would shrink, at the cost of a copy;
then result and input stay one axis.
"""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.closure import components
from edgeprune.dependency.relations import Relations


def settle_normalized_reads(rels: Relations, *, together: bool) -> None:
    """Tie the two sides of every read, in place, except if the result is tied to channels that another node makes.

    Args:
        rels: the relations of the graph.
        together: tie all of them.
    """
    if not rels.normalized_reads:
        return
    apart: set[int] = set() if together else _made_elsewhere(rels)
    rels.equal += [(a, b, node) for a, b, node in rels.normalized_reads if b not in apart]


def _made_elsewhere(rels: Relations) -> set[int]:
    """The results' factors that equalities tie to an axis of another node, which is not such a normalization."""
    pairs = np.array([(a, b) for a, b, _ in rels.equal], dtype=np.int64).reshape(-1, 2)
    label = components(pairs[:, 0], pairs[:, 1], len(rels.sizes))
    results = {int(label[b]) for _, b, _ in rels.normalized_reads}
    normalizations = {node for _, _, node in rels.normalized_reads}
    found: set[int] = set()
    for index, node in enumerate(rels.nodes):
        if index in normalizations:
            continue
        made = {int(label[f]) for v in node.outputs for f in rels.axes.get(v.name or "", ())} & results
        computed = [v for v in node.inputs if v is not None and v.const_value is None]
        if made and computed:
            found |= made - {int(label[f]) for v in computed for f in rels.axes.get(v.name or "", ())}
    return {b for _, b, _ in rels.normalized_reads if int(label[b]) in found}
