"""The layers that formats of low rank ask to become two, and what of them is in INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import onnx_ir as ir

from edgeprune.costmodel import Block
from edgeprune.graph import Linear
from edgeprune.latency.block_latency import Format
from edgeprune.latency.rank_formats import rank_of, whole_format
from edgeprune.passes.rank import factor_layers, factorable, first_of, fold_factors, principals


def ranks_in(model: ir.Model, blocks: Sequence[Block], formats: Sequence[Format]) -> dict[str, int]:
    """Node -> its rank in these formats, for the layers of a network's model that become two; without those cut below.

    Args:
        model: the network at any widths.
        blocks: of the network.
        formats: per block.
    """
    chosen = {n: rank_of(f) for b, f in zip(blocks, formats, strict=True) if rank_of(f) for n in b.nodes}
    if not chosen:
        return {}
    layers = {name: x for name, x in factorable(model).items() if isinstance(x, Linear)}
    return {n: r for n, r in chosen.items() if n in layers and r < min(layers[n].features, layers[n].outputs)}


def int8_nodes_in(
    model: ir.Model, available: Sequence[Mapping[Format, Collection[str]]], formats: Sequence[Format]
) -> set[str]:
    """Names of a model's nodes that are in INT8 in these formats: of two layers both, if the one would be.

    Args:
        model: the network at any widths.
        available: per block, format -> names of its INT8 nodes.
        formats: per block.
    """
    alive = {str(n.name) for n in model.graph}
    chosen = {n for forms, f in zip(available, formats, strict=True) for n in forms.get(whole_format(f), ())}
    return {n for name in chosen for n in (name, first_of(name)) if n in alive}


def factored_for_timing(model: ir.Model, blocks: Sequence[Block], formats: Sequence[Format]) -> ir.Model:
    """The model with two layers of any weights in place of each of low rank."""
    ranks = ranks_in(model, blocks, formats)
    if not ranks:
        return model
    split = factor_layers(model, {n: p.factors(ranks[n]) for n, p in principals(model, list(ranks), None)})
    fold_factors(split, list(ranks))
    return split
