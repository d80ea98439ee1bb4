"""Weights that several nodes share on purpose stay shared; vectors that are merely equal do not.

One network that is called twice (a Siamese pair), or one head on several feature maps, has one tensor for several
nodes. Its channels are cut together, and it is stored once. The layers that read such a weight are *twins*, and so are
the nodes before and behind them that are alike; twins share their vectors (biases, scales) too.

Exporters also store equal vectors (biases of zeros, scales of ones) once for layers that have nothing to do with each
other. Then a channel could only be removed from all of them together, so every other reader gets its own copy. That
holds for tables that are added (relative positions) and for filters that are the same for every channel (a blur), too.

Some exporters copy a shared weight for each call, and folding a BatchNormalization makes two weights of one. Layers
with equal weights share one again if they had one tensor, or if none of them depends on another: a layer that comes
after its copy is one of a stack that has not been trained.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, is_op, only_use
from edgeprune.passes.canonicalize.twin_layers import (
    SHARED,
    Contents,
    Twins,
    attributes_of,
    find_twins,
    is_weight,
    operands,
)

MAX_BYTES = 65_536
"""Larger tensors stay shared. Biases, scales and relative-position tables of one head are smaller."""
_COPIED = "copied_vectors"
_CHAIN = 6
"""Nodes behind a layer that are compared, for folding."""


def mark_shared(model: ir.Model) -> set[ir.Node]:
    """Note in every layer which weight it shares; returns the nodes behind such layers that must not be folded.

    A scale may be folded into a shared weight if all layers that read the weight are followed by an equal one.
    """
    blocked: set[ir.Node] = set()
    for value in list(model.graph.initializers.values()):
        layers = [node for node, index in value.uses() if node.graph is model.graph and index in operands(node)]
        if len(layers) < 2 or not is_weight(value):
            continue
        for layer in layers:
            layer.meta[SHARED] = value.name
            source = layer.inputs[0].producer() if layer.inputs[0] is not None else None
            blocked |= {source} if source is not None and is_op(source, "BatchNormalization") else set()
        chains = [list(_chain(layer)) for layer in layers]
        same = 0
        while all(len(chain) > same for chain in chains) and _scales_alike([chain[same] for chain in chains]):
            same += 1
        blocked |= {node for chain in chains for node in chain[same:]}
    return blocked


def share_weights(model: ir.Model) -> int:
    """Let twins read the same tensors, and all other readers of a small vector their own, in place.

    Returns:
        How many operands read another tensor than before.
    """
    twins = find_twins(model)
    changes = 0
    for group in twins:
        for index, value in enumerate(group[0].inputs):
            if value is None or not value.is_initializer():
                continue
            for node in group[1:]:
                other = node.inputs[index]
                if other is not value and other is not None and not other.is_graph_input():
                    node.replace_input_with(index, value)
                    changes += 1
                    if not other.uses() and not other.is_graph_output():
                        model.graph.initializers.pop(other.name or "")
    return changes + _unshare(model, twins)


def _chain(layer: ir.Node) -> Iterator[ir.Node]:
    """The nodes behind a layer, as long as each is the only reader of the one before."""
    node = layer
    for _ in range(_CHAIN):
        use = only_use(node.outputs[0])
        if use is None:
            return
        node = use[0]
        yield node


def _scales_alike(nodes: Sequence[ir.Node]) -> bool:
    """Whether nodes are alike, and multiply by equal constants; what they add goes into the biases."""
    if len({(node.op_type, attributes_of(node)) for node in nodes}) > 1 or len(set(map(id, nodes))) < len(nodes):
        return False
    if is_op(nodes[0], "Add", "Sub"):
        return True
    contents = Contents()
    return len({tuple(contents.key(value) for value in node.inputs) for node in nodes}) == 1


def _unshare(model: ir.Model, twins: Sequence[Twins]) -> int:
    """Copy the small float tensors that readers share without being twins; returns how many copies are read."""
    graph, names = model.graph, Names(model)
    groups: dict[ir.Node, set[int]] = defaultdict(set)
    for number, group in enumerate(twins):
        for node in group:
            groups[node].add(number)
    changes = 0
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        uses = [(node, index) for node, index in value.uses() if node.graph is graph]
        if tensor is None or len(uses) < 2 or tensor.nbytes > MAX_BYTES or tensor.size < 2:
            continue
        if value.is_graph_input() or value.is_graph_output() or not tensor.dtype.is_floating_point():
            continue
        if any(index in operands(node) for node, index in uses) and is_weight(value):
            continue
        parts: list[tuple[int, set[int], ir.Value]] = []
        for node, index in uses:
            own = next((copy for i, several, copy in parts if i == index and several & groups[node]), None)
            if own is None:
                own = add_initializer(graph, names.fresh(value.name or "weight"), tensor.numpy()) if parts else value
                parts.append((index, groups[node], own))
            if own is not value:
                node.replace_input_with(index, own)
                changes += 1
                graph.meta[_COPIED] = (*copied_vectors(model), str(value.name))
    return changes


def copied_vectors(model: ir.Model) -> tuple[str, ...]:
    """Names of the small tensors of which a reader got its own copy, once for each copy."""
    found: tuple[str, ...] = model.graph.meta.get(_COPIED, ())
    return found
