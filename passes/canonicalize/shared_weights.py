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
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from edgeprune.graph import Names, add_initializer, has_subgraph, is_op, only_use

MAX_BYTES = 65_536
"""Larger tensors stay shared. Biases, scales and relative-position tables of one head are smaller."""
SHARED = "shared_weight"
"""Key in a layer's ``meta`` for the name of the weight that it shared with another layer."""

_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv"), (1,)),
    **dict.fromkeys(("Gemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Gather": (0,),
}
"""Operator -> operands that are weights."""
_CHAIN = 6
"""Nodes behind a layer that are compared, for folding."""

Twins: TypeAlias = tuple[ir.Node, ...]


def mark_shared(model: ir.Model) -> set[ir.Node]:
    """Note in every layer which weight it shares; returns the nodes behind such layers that must not be folded.

    A scale may be folded into a shared weight if all layers that read the weight are followed by an equal one.
    """
    blocked: set[ir.Node] = set()
    for value in list(model.graph.initializers.values()):
        layers = [node for node, index in value.uses() if node.graph is model.graph and index in _operands(node)]
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
    contents = _Contents()
    twins = _grow(_seeds(model, contents), contents)
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


def twin_values(model: ir.Model) -> dict[str, frozenset[str]]:
    """Computed value -> the values at the same place of its twins, itself among them; only values that have any."""
    groups = _twins_of(model)
    places = (zip(*([*node.inputs, *node.outputs] for node in group), strict=False) for group in groups)
    values = (value for place in places for value in place)
    return _together([{str(v.name) for v in several if v is not None and not v.is_initializer()} for several in values])


def twin_nodes(model: ir.Model) -> dict[str, frozenset[str]]:
    """Node -> its twins, itself among them; only nodes that have any."""
    return _together([{str(node.name) for node in group} for group in _twins_of(model)])


def _twins_of(model: ir.Model) -> list[Twins]:
    weights = (value for value in model.graph.initializers.values() if len(value.uses()) > 1)
    if not any(is_weight(value) for value in weights):
        return []
    contents = _Contents()
    return _grow(_seeds(model, contents), contents)


def _together(groups: Sequence[set[str]]) -> dict[str, frozenset[str]]:
    """Name -> all names that share a group with it, directly or through others."""
    together: dict[str, frozenset[str]] = {}
    for names in groups:
        if len(names) > 1:
            whole = frozenset(names).union(*(together.get(name, frozenset()) for name in names))
            together |= dict.fromkeys(whole, whole)
    return together


def is_weight(value: ir.Value | None) -> bool:
    """Whether a value is a constant float matrix or kernel with a row of its own for every channel."""
    tensor = value.const_value if value is not None else None
    if value is None or tensor is None or value.is_graph_input() or value.is_graph_output():
        return False
    if not tensor.dtype.is_floating_point() or sum(d > 1 for d in tensor.shape.numpy()) < 2:
        return False
    array = tensor.numpy()
    return not any(bool((array == array.take([0], axis)).all()) for axis in range(min(2, array.ndim)))


def _operands(node: ir.Node) -> tuple[int, ...]:
    return _WEIGHTS.get(node.op_type, ()) if is_op(node, node.op_type) else ()


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
    if len({(node.op_type, _attributes(node)) for node in nodes}) > 1 or len(set(map(id, nodes))) < len(nodes):
        return False
    if is_op(nodes[0], "Add", "Sub"):
        return True
    contents = _Contents()
    return len({tuple(contents.key(value) for value in node.inputs) for node in nodes}) == 1


def _attributes(node: ir.Node) -> str:
    return str(sorted((name, str(a.value)) for name, a in node.attributes.items()))


class _Contents:
    """What a tensor holds, as a key: equal keys mean equal values."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, ...]] = {}

    def key(self, value: ir.Value | None) -> tuple[object, ...]:
        if value is None or not value.is_initializer() or value.is_graph_input() or value.const_value is None:
            return ("computed", value is None)
        if id(value) not in self._known:
            array = value.const_value.numpy()
            data = np.ascontiguousarray(array).tobytes()
            self._known[id(value)] = (str(array.dtype), array.shape, sha256(data).digest())
        return self._known[id(value)]

    def alike(self, a: ir.Node, b: ir.Node) -> bool:
        """Whether two nodes do the same with equal constants."""
        if a is b or (a.domain, a.op_type, len(a.inputs)) != (b.domain, b.op_type, len(b.inputs)):
            return False
        if has_subgraph(a) or _attributes(a) != _attributes(b):
            return False
        return all(self.key(x) == self.key(y) for x, y in zip(a.inputs, b.inputs, strict=True))


def _seeds(model: ir.Model, contents: _Contents) -> list[Twins]:
    """Layers that read one weight, or equal ones; see the module's text."""
    shapes: dict[object, list[tuple[ir.Node, ir.Value]]] = defaultdict(list)
    for node in model.graph:
        for index in _operands(node):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value.const_value is not None and len(value.const_value.shape) > 1:
                key = (
                    node.op_type,
                    index,
                    _attributes(node),
                    tuple(value.const_value.shape.numpy()),
                    value.const_value.dtype,
                )
                shapes[key].append((node, value))
    found: list[Twins] = []
    for alike in shapes.values():
        equal: dict[object, list[tuple[ir.Node, ir.Value]]] = defaultdict(list)
        for node, value in alike if len(alike) > 1 else ():
            equal[contents.key(value)].append((node, value))
        for several in equal.values():
            if len(several) < 2 or not is_weight(several[0][1]):
                continue
            origins: dict[str, list[ir.Node]] = defaultdict(list)
            for node, value in several:
                origins[str(node.meta.get(SHARED) or value.name)].append(node)
            nodes = [node for node, _ in several]
            if len(origins) == 1 or _independent(nodes):
                found.append(tuple(nodes))
            else:
                found += [tuple(group) for group in origins.values() if len(group) > 1]
    return found


def _independent(nodes: Sequence[ir.Node]) -> bool:
    """Whether no node depends on another one."""
    wanted = set(nodes)
    for start in nodes:
        seen: set[ir.Node] = set()
        stack = [start]
        while stack:
            for value in stack.pop().outputs:
                for reader in value.consumers():
                    if reader in wanted:
                        return False
                    if reader not in seen:
                        seen.add(reader)
                        stack.append(reader)
    return True


def _grow(seeds: Sequence[Twins], contents: _Contents) -> list[Twins]:
    """The seeds, and step by step the nodes before and behind them that are alike."""
    seen: set[Twins] = set()
    stack = list(seeds)
    found: list[Twins] = []
    while stack:
        group = stack.pop()
        if group in seen:
            continue
        seen.add(group)
        found.append(group)
        for index in range(min(len(node.inputs) for node in group)):
            values = [node.inputs[index] for node in group]
            producers = [value.producer() if value is not None else None for value in values]
            stack += _twins([[p] if p is not None else [] for p in producers], contents)
        for index in range(min(len(node.outputs) for node in group)):
            uses = [list(node.outputs[index].uses()) for node in group]
            for first in uses[0]:
                readers = [[first.node]] + [[u.node for u in other if u.idx == first.idx] for other in uses[1:]]
                stack += _twins(readers, contents)
    return found


def _twins(candidates: Sequence[Sequence[ir.Node]], contents: _Contents) -> list[Twins]:
    """One node of each list, if they are alike and all different."""
    if not candidates[0]:
        return []
    chosen = [candidates[0][0]]
    for nodes in candidates[1:]:
        match = next((n for n in nodes if n not in chosen and contents.alike(chosen[0], n)), None)
        if match is None:
            return []
        chosen.append(match)
    return [tuple(chosen)]


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
        if any(index in _operands(node) for node, index in uses) and is_weight(value):
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
    return changes
