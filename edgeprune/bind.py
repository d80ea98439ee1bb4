"""Rules applied to a graph: every axis becomes a factor, and every node says how its factors relate.

The result is plain data, lists of numbers, which :mod:`edgeprune.closure` solves. Whatever cannot be related is frozen here,
with its reason: no rule, an unknown shape, control flow, the graph's own inputs and outputs.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dims import Grammar, NodeView, Rel, Term, rule_of
from edgeprune.errors import RuleError
from edgeprune.groups import Freeze

UNKNOWN = -1
"""The size of a factor whose length is dynamic."""


@dataclass(frozen=True)
class Contraction:
    """A factor summed over by a node, and where it stands: (operand, axis) pairs."""

    node: int
    factor: int
    places: tuple[tuple[int, int], ...]


@dataclass
class Relations:
    """All that the rules say about one graph. Factors are numbers; ``node`` fields index ``nodes``.

    Attributes:
        nodes: the graph's nodes, in order.
        axes: value name -> factor of each axis.
        sizes: length of each factor, or UNKNOWN.
        equal: (factor, factor, node).
        products: (factor, its factors in order, node).
        concats: (factor, its parts in order, node).
        takes: (factor, positions, the factor that holds just these, node).
        freezes: factor -> why it is frozen.
        statistics: (factor, node) of factors that a node takes a statistic over.
        contractions: every factor that a node sums over.
        rels: node -> its relation, for nodes that have one.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    axes: dict[str, list[int]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    equal: list[tuple[int, int, int]] = field(default_factory=list)
    products: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    concats: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    takes: list[tuple[int, NDArray[np.int64], int, int]] = field(default_factory=list)
    freezes: dict[int, Freeze] = field(default_factory=dict)
    statistics: list[tuple[int, int]] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)
    rels: dict[int, Rel] = field(default_factory=dict)
    _neighbours: dict[int, list[tuple[int, int]]] | None = None

    def neighbours(self) -> dict[int, list[tuple[int, int]]]:
        """Factor -> (related factor, node that relates them), over all kinds of relations; built on first use."""
        if self._neighbours is None:
            out: dict[int, list[tuple[int, int]]] = defaultdict(list)
            ties = [(a, b, node) for a, b, node in self.equal]
            ties += [(a, b, node) for a, several, node in (*self.products, *self.concats) for b in sorted(several, key=lambda f: -self.sizes[f])]
            ties += [(a, b, node) for a, _, b, node in self.takes]
            for a, b, node in ties:
                if self.sizes[a] != 1 and self.sizes[b] != 1:  # a factor of length one ties nothing
                    out[a].append((b, node))
                    out[b].append((a, node))
            self._neighbours = out
        return self._neighbours

    def new(self, size: int) -> int:
        """A new factor."""
        self.sizes.append(size)
        return len(self.sizes) - 1

    def freeze(self, factor: int, why: Freeze) -> None:
        """Freeze a factor; the first reason stays."""
        self.freezes.setdefault(factor, why)

    def add_value(self, value: ir.Value) -> None:
        """Give every axis of a value a factor. Dynamic lengths freeze."""
        if value.shape is None or value.name is None or value.name in self.axes:
            return
        ids = self.axes[value.name] = []
        for d in value.shape.dims:
            if isinstance(d, int):
                ids.append(self.new(d))
            else:
                ids.append(self.new(UNKNOWN))
                self.freezes[ids[-1]] = Freeze("dynamic length", value.name)

    def freeze_value(self, value: ir.Value | None, why: Freeze) -> None:
        """Freeze every axis of a value."""
        if value is not None and value.name is not None:
            for f in self.axes.get(value.name, ()):
                self.freezes.setdefault(f, why)


def relate(model: ir.Model) -> Relations:
    """Apply every node's rule. Never raises: what does not fit is frozen."""
    from edgeprune.shapeflow import ShapeFlow

    graph = model.graph
    rels = Relations(nodes=list(graph))
    for value in (*graph.inputs, *graph.initializers.values()):
        rels.add_value(value)
    for node in rels.nodes:
        for value in node.outputs:
            rels.add_value(value)
    for value in graph.inputs:
        rels.freeze_value(value, Freeze("input of the graph", value.name))
    for value in graph.outputs:
        rels.freeze_value(value, Freeze("output of the graph", value.name))
    flow = ShapeFlow(rels)
    opset = graph.opset_imports.get("", 1)
    for index, node in enumerate(rels.nodes):
        if not flow.visit(index, node):
            _relate_node(rels, index, node, opset)
            flow.consume(index, node)
    return rels


def captured(node: ir.Node) -> list[ir.Value]:
    """Values of the outer graphs that the bodies of a node (If, Loop, Scan) read."""
    found: dict[int, ir.Value] = {}
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies = list(attribute.as_graphs())
        else:
            continue
        for body in bodies:
            inner = list(ir.traversal.RecursiveGraphIterator(body))
            own = {id(v) for n in inner for v in n.outputs} | {
                id(v) for v in (*body.inputs, *body.initializers.values())
            }
            for n in inner:
                for v in n.inputs:
                    if v is not None and id(v) not in own:
                        found[id(v)] = v
            for v in body.outputs:
                if id(v) not in own:
                    found[id(v)] = v
    return list(found.values())


def _relate_node(rels: Relations, index: int, node: ir.Node, opset: int) -> None:
    if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
        for v in node.outputs:
            rels.freeze_value(v, Freeze("constant that was not lifted to an initializer", node.name))
        return
    outer = captured(node)
    function = (
        None
        if outer or any(a.type in _GRAPHS for a in node.attributes.values())
        else rule_of(node.domain, node.op_type)
    )
    if function is None:
        name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        why = Freeze("control flow" if outer else f"no rule for {name}", node.name)
        _freeze_node(rels, node, why, outer)
        return
    try:
        rel = function(NodeView(node, opset))
        _Binder(rels, index, node, rel).bind()
        rels.rels[index] = rel
    except RuleError as error:
        _freeze_node(rels, node, Freeze(f"{node.op_type}: {error}", node.name), ())


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _freeze_node(rels: Relations, node: ir.Node, why: Freeze, outer: list[ir.Value] | tuple[()]) -> None:
    for value in (*node.inputs, *node.outputs, *outer):
        rels.freeze_value(value, why)


class _Binder:
    """One relation bound to one node."""

    def __init__(self, rels: Relations, index: int, node: ir.Node, rel: Rel) -> None:
        self.rels, self.index, self.node, self.rel = rels, index, node, rel
        self.factor: dict[str, int] = {}
        self.broadcast: list[int] = []
        self.late: list[tuple[int, str, tuple[str, ...], str]] = []
        self.places: dict[str, list[tuple[int, int]]] = {}

    def bind(self) -> None:
        grammar = self.rel.grammar
        node = self.node
        if len(node.inputs) > len(grammar.inputs) or len(node.outputs) > len(grammar.outputs):
            raise RuleError(
                f"the node has {len(node.inputs)} inputs and {len(node.outputs)} outputs, its relation "
                f"{grammar.text!r} has {len(grammar.inputs)} and {len(grammar.outputs)}"
            )
        for term, value in zip(grammar.outputs, node.outputs):
            self.term(term, value, -1)
        for k, (term, given) in enumerate(zip(grammar.inputs, node.inputs)):
            if given is not None:
                self.term(term, given, k)
        self.structure(grammar)
        why = Freeze(self.rel.why or f"{node.op_type} works along this axis", node.name)
        for name in grammar.frozen:
            if name in self.factor:
                self.rels.freeze(self.factor[name], why)
        for name in grammar.statistic:
            if name in self.factor:
                self.rels.statistics.append((self.factor[name], self.index))
        for name in grammar.contracted:
            if name in self.factor and self.places.get(name):
                self.rels.contractions.append(Contraction(self.index, self.factor[name], tuple(self.places[name])))

    def term(self, term: Term, value: ir.Value, operand: int) -> None:
        axes = self.rels.axes.get(value.name or "")
        if axes is None:
            if all(a.kind == "rest" for a in term) or (operand < 0 and not value.uses()):
                return
            raise RuleError(f"the shape of {value.name} is unknown")
        spread = len(axes) - sum(a.kind not in ("rest", "broadcast") for a in term)
        if spread < 0 or (spread and not any(a.kind in ("rest", "broadcast") for a in term)):
            raise RuleError(
                f"{value.name} has {len(axes)} axes, its term in {self.rel.text!r} has {len(axes) - spread}"
            )
        at = 0
        for axis in term:
            if axis.kind == "rest":
                why = Freeze(self.rel.why or f"{self.node.op_type} works along this axis", self.node.name)
                for f in axes[at : at + spread]:
                    self.rels.freezes.setdefault(f, why)
                at += spread
                continue
            if axis.kind == "broadcast":
                self.spread(axes[at : at + spread])
                at += spread
                continue
            f = axes[at]
            if axis.kind == "factor":
                self.same(axis.factors[0], f)
                self.places.setdefault(axis.factors[0], []).append((operand, at))
            elif axis.kind == "frozen":
                self.rels.freeze(
                    f, Freeze(self.rel.why or f"{self.node.op_type} works along this axis", self.node.name)
                )
            elif axis.kind == "one":
                if self.rels.sizes[f] not in (1, UNKNOWN):
                    raise RuleError(f"axis {at} of {value.name} has length {self.rels.sizes[f]}, not 1")
            else:
                self.late.append((f, axis.kind, axis.factors, axis.index))
                if axis.kind == "product":
                    for name in axis.factors:
                        self.places.setdefault(name, []).append((operand, at))
            at += 1

    def same(self, name: str, f: int) -> None:
        first = self.factor.setdefault(name, f)
        if first == f:
            return
        a, b = self.rels.sizes[first], self.rels.sizes[f]
        if a != b and UNKNOWN not in (a, b):
            raise RuleError(f"factor {name!r} of {self.rel.text!r} has length {a} and {b}")
        self.rels.equal.append((first, f, self.index))

    def spread(self, axes: list[int]) -> None:
        """Tie broadcast axes, right-aligned; an axis of length one is not tied to a longer one."""
        sizes = self.rels.sizes
        while len(self.broadcast) < len(axes):
            self.broadcast.insert(0, -1)
        offset = len(self.broadcast) - len(axes)
        for k, f in enumerate(axes):
            first = self.broadcast[offset + k]
            if first < 0:
                self.broadcast[offset + k] = f
            elif sizes[f] == sizes[first] or UNKNOWN in (sizes[f], sizes[first]):
                if sizes[f] != 1:
                    self.rels.equal.append((first, f, self.index))
            elif sizes[f] != 1:
                raise RuleError(f"lengths {sizes[first]} and {sizes[f]} cannot be broadcast")

    def structure(self, grammar: Grammar) -> None:
        """Products, concatenations and takes, once every factor that stands alone has its length."""
        sizes = dict(self.rel.sizes)
        for name, f in self.factor.items():
            if sizes.setdefault(name, self.rels.sizes[f]) != self.rels.sizes[f]:
                raise RuleError(
                    f"factor {name!r} of {self.rel.text!r} has length {self.rels.sizes[f]}, the rule says {sizes[name]}"
                )
        for f, kind, factors, index in self.late:
            whole = self.rels.sizes[f]
            if kind == "take":
                sizes.setdefault(factors[0], UNKNOWN)
                continue
            self._last_size(sizes, factors, whole, kind)
        for name, size in sizes.items():
            if name not in self.factor:
                self.factor[name] = self.rels.new(size)
                if size == UNKNOWN:
                    self.rels.freeze(self.factor[name], Freeze("dynamic length", self.node.name))
        for f, kind, factors, index in self.late:
            ids = tuple(self.factor[n] for n in factors)
            whole = self.rels.sizes[f]
            if whole == UNKNOWN or any(self.rels.sizes[i] == UNKNOWN for i in ids):
                for i in (f, *ids):
                    self.rels.freeze(i, Freeze("dynamic length", self.node.name))
            elif kind == "product":
                if int(np.prod([self.rels.sizes[i] for i in ids])) != whole:
                    raise RuleError(
                        f"({' '.join(factors)}) of {self.rel.text!r} does not fill an axis of length {whole}"
                    )
                self.rels.products.append((f, ids, self.index))
            elif kind == "concat":
                if sum(self.rels.sizes[i] for i in ids) != whole:
                    raise RuleError(
                        f"[{'|'.join(factors)}] of {self.rel.text!r} does not fill an axis of length {whole}"
                    )
                self.rels.concats.append((f, ids, self.index))
            else:
                positions = self.rel.indices.get(index)
                if positions is None or len(positions) != whole:
                    raise RuleError(f"index {index!r} of {self.rel.text!r} does not have the axis's length {whole}")
                if len(positions) and not (0 <= positions.min() and positions.max() < self.rels.sizes[ids[0]]):
                    raise RuleError(f"index {index!r} of {self.rel.text!r} is out of range")
                self.rels.takes.append((ids[0], positions, f, self.index))

    def _last_size(self, sizes: dict[str, int], factors: tuple[str, ...], whole: int, kind: str) -> None:
        """Fill in the one length of a product or concatenation that is not given."""
        missing = [n for n in factors if n not in sizes]
        if not missing:
            return
        if len(missing) > 1:
            raise RuleError(f"the lengths of {' and '.join(missing)} in {self.rel.text!r} are not given")
        known = [sizes[n] for n in factors if n in sizes]
        if whole == UNKNOWN or UNKNOWN in known:
            sizes[missing[0]] = UNKNOWN
        elif kind == "concat":
            sizes[missing[0]] = whole - sum(known)
        else:
            rest = int(np.prod(known))
            if rest == 0 or whole % rest:
                raise RuleError(f"({' '.join(factors)}) of {self.rel.text!r} does not divide an axis of length {whole}")
            sizes[missing[0]] = whole // rest
