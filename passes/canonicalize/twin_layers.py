"""Twins: layers that read one weight, and the nodes before and behind them that are alike.

They are the calls of one network on several inputs, or of one head on several maps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from edgeprune.graph import has_subgraph, is_op

SHARED = "shared_weight"
"""Key in a layer's ``meta`` for the name of the weight that it shared with another layer."""

_WEIGHTS = {
    **dict.fromkeys(("Conv", "ConvTranspose", "DeformConv"), (1,)),
    **dict.fromkeys(("Gemm", "MatMul"), (0, 1)),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), (1, 2)),
    "Gather": (0,),
}
"""Operator -> operands that are weights."""

Twins: TypeAlias = tuple[ir.Node, ...]


def twin_values(model: ir.Model) -> dict[str, frozenset[str]]:
    """Computed value -> the values at the same place of its twins, itself among them; only values that have any."""
    groups = _shared_twins(model)
    places = (zip(*([*node.inputs, *node.outputs] for node in group), strict=False) for group in groups)
    values = (value for place in places for value in place)
    return _together([{str(v.name) for v in several if v is not None and not v.is_initializer()} for several in values])


def twin_nodes(model: ir.Model) -> dict[str, frozenset[str]]:
    """Node -> its twins, itself among them; only nodes that have any."""
    return _together([{str(node.name) for node in group} for group in _shared_twins(model)])


def find_twins(model: ir.Model) -> list[Twins]:
    """Groups of nodes that do the same with equal constants, grown from the layers that read equal weights."""
    contents = Contents()
    return _grow(_seeds(model, contents), contents)


def _shared_twins(model: ir.Model) -> list[Twins]:
    """Those of a canonical model, in which twins share their tensors."""
    weights = (value for value in model.graph.initializers.values() if len(value.uses()) > 1)
    return find_twins(model) if any(is_weight(value) for value in weights) else []


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


def operands(node: ir.Node) -> tuple[int, ...]:
    """Indices of the inputs that are weights."""
    return _WEIGHTS.get(node.op_type, ()) if is_op(node, node.op_type) else ()


def attributes_of(node: ir.Node) -> str:
    """All attributes as one text."""
    return str(sorted((name, str(a.value)) for name, a in node.attributes.items()))


class Contents:
    """What a tensor holds, as a key: equal keys mean equal values."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[object, ...]] = {}

    def equal(self, uses: Sequence[tuple[ir.Node, ir.Value]]) -> list[list[tuple[ir.Node, ir.Value]]]:
        """The uses of constants in sets of equal ones; only what a few elements do not tell apart is read whole."""
        rough: dict[object, list[tuple[ir.Node, ir.Value]]] = defaultdict(list)
        for node, value in uses if len(uses) > 1 else ():
            rough[_sketch(value)].append((node, value))
        found: dict[object, list[tuple[ir.Node, ir.Value]]] = defaultdict(list)
        for number, several in enumerate(rough.values()):
            is_one = len({id(value) for _, value in several}) == 1
            for node, value in several:
                found[number if is_one else self.key(value)].append((node, value))
        return list(found.values())

    def key(self, value: ir.Value | None) -> tuple[object, ...]:
        """The key of a constant; one key for all computed values."""
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
        if has_subgraph(a) or attributes_of(a) != attributes_of(b):
            return False
        return all(self.key(x) == self.key(y) for x, y in zip(a.inputs, b.inputs, strict=True))


_SKETCHED = 64
"""Elements that tell most weights apart."""


def _sketch(value: ir.Value) -> bytes:
    """A few elements of a constant, evenly spread."""
    assert value.const_value is not None
    array = value.const_value.numpy()
    few: bytes = array.flat[:: max(1, array.size // _SKETCHED)].tobytes()
    return few


def _seeds(model: ir.Model, contents: Contents) -> list[Twins]:
    """Layers that read one weight, or equal ones; see the module's text."""
    shapes: dict[object, list[tuple[ir.Node, ir.Value]]] = defaultdict(list)
    for node in model.graph:
        for index in operands(node):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is not None and value.const_value is not None and len(value.const_value.shape) > 1:
                key = (
                    node.op_type,
                    index,
                    attributes_of(node),
                    tuple(value.const_value.shape.numpy()),
                    value.const_value.dtype,
                )
                shapes[key].append((node, value))
    found: list[Twins] = []
    for alike in shapes.values():
        for several in contents.equal(alike):
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


def _grow(seeds: Sequence[Twins], contents: Contents) -> list[Twins]:
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


def _twins(candidates: Sequence[Sequence[ir.Node]], contents: Contents) -> list[Twins]:
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
