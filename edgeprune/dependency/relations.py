"""The relations of one graph from all rules, as plain data, which :mod:`edgeprune.dependency.closure` solves."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.dims import Rel
from edgeprune.dependency.groups import Freeze
from edgeprune.graph import dim_keys
from edgeprune.lengths import StandIns

UNKNOWN = -1
"""The size of a factor of whose length nothing is known."""

_NOT_ZERO = {"LpNormalization": 0, "Div": 1, "Mod": 1, "Reciprocal": 0, "Log": 0, "ReduceLogSum": 0}
"""Operand that must not be zero; Pow is in :meth:`Relations.risky`."""


DYNAMIC = "dynamic length"
"""The reason of an axis whose length is open."""


@dataclass(frozen=True)
class Contraction:
    """A factor that a node sums over, and its places: (operand, axis) pairs."""

    node: int
    factor: int
    places: tuple[tuple[int, int], ...]


@dataclass
class Relations:
    """All relations of one graph. Factors are numbers; ``node`` fields index ``nodes``.

    Attributes:
        nodes: the graph's nodes, in order.
        axes: value name -> factor of each axis.
        sizes: length of each factor, or UNKNOWN; for an open length, a number that stands in for it.
        open: factors of open length.
        equal: (factor, factor, node).
        products: (factor, its factors in order, node).
        concats: (factor, its parts in order, node).
        takes: (factor, positions, the factor of only these positions, node).
        freezes: factor -> why it is frozen.
        statistics: (factor, node) of factors over which a node computes a statistic.
        contractions: every factor that a node sums over.
        normalized_reads: (factor, factor of a result that may have fewer of its positions, node).
        rels: node -> its relation, for nodes that have one.
    """

    nodes: list[ir.Node] = field(default_factory=list)
    axes: dict[str, list[int]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    open: set[int] = field(default_factory=set)
    stand_ins: StandIns = field(default_factory=StandIns)
    equal: list[tuple[int, int, int]] = field(default_factory=list)
    products: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    concats: list[tuple[int, tuple[int, ...], int]] = field(default_factory=list)
    takes: list[tuple[int, NDArray[np.int64], int, int]] = field(default_factory=list)
    freezes: dict[int, Freeze] = field(default_factory=dict)
    statistics: list[tuple[int, int]] = field(default_factory=list)
    contractions: list[Contraction] = field(default_factory=list)
    normalized_reads: list[tuple[int, int, int]] = field(default_factory=list)
    rels: dict[int, Rel] = field(default_factory=dict)
    _neighbours: dict[int, list[tuple[int, int]]] | None = None
    _index: dict[int, int] | None = None
    _risky: list[tuple[ir.Node, int]] | None = None

    def neighbours(self) -> dict[int, list[tuple[int, int]]]:
        """Factor -> (related factor, node that relates them), for all kinds of relations; computed once."""
        if self._neighbours is None:
            out: dict[int, list[tuple[int, int]]] = defaultdict(list)
            ties = [(a, b, node) for a, b, node in self.equal]
            ties += [
                (a, b, node)
                for a, several, node in (*self.products, *self.concats)
                for b in sorted(several, key=lambda f: -self.sizes[f])
            ]
            ties += [(a, b, node) for a, _, b, node in self.takes]
            for a, b, node in ties:
                if self.sizes[a] != 1 and self.sizes[b] != 1:  # a factor of length one ties nothing
                    out[a].append((b, node))
                    out[b].append((a, node))
            self._neighbours = out
        return self._neighbours

    def relation_of(self, node: ir.Node) -> Rel | None:
        """The relation of a node, if it has one."""
        if self._index is None:
            self._index = {id(n): k for k, n in enumerate(self.nodes)}
        return self.rels.get(self._index.get(id(node), -1))

    def risky(self) -> list[tuple[ir.Node, int]]:
        """Nodes and operands that must not be zero: divisors, and operands of logarithms and inverses.

        A base must not be zero unless its exponent is a positive constant.
        """
        if self._risky is None:
            self._risky = [(n, _NOT_ZERO[n.op_type]) for n in self.nodes if n.op_type in _NOT_ZERO]
            self._risky += [(n, 0) for n in self.nodes if n.op_type == "Pow" and not positive_exponent(n)]
        return self._risky

    def new(self, size: int, *, open_length: bool = False) -> int:
        """A new factor; ``open_length`` if the size only stands in for one."""
        self.sizes.append(size)
        if open_length:
            self.open.add(len(self.sizes) - 1)
        return len(self.sizes) - 1

    def freeze(self, factor: int, why: Freeze) -> None:
        """Freeze a factor; the first reason is kept."""
        self.freezes.setdefault(factor, why)

    def add_value(self, value: ir.Value) -> None:
        """Give every axis of a value a factor. Unknown lengths freeze; open ones do when all rules are known."""
        dims = dim_keys(value)
        if dims is None or value.name is None or value.name in self.axes:
            return
        ids = self.axes[value.name] = []
        for d in dims:
            number = self.stand_ins.number(d)
            if number is None:
                ids.append(self.new(UNKNOWN))
                self.freezes[ids[-1]] = Freeze(DYNAMIC, value.name)
            else:
                ids.append(self.new(number, open_length=not isinstance(d, int)))

    def freeze_value(self, value: ir.Value | None, why: Freeze) -> None:
        """Freeze every axis of a value."""
        if value is not None and value.name is not None:
            for f in self.axes.get(value.name, ()):
                self.freeze(f, why)


def positive_exponent(node: ir.Node) -> bool:
    """Whether the exponent of a Pow is a constant above zero: then zero stays zero."""
    value = node.inputs[1]
    constant = None if value is None or value.is_graph_input() else value.const_value
    return constant is not None and bool(np.all(constant.numpy() > 0))
