"""Axis relations: what an operator says about the axes of its operands, as one line of a small language.

A relation reads like an einsum, one term an operand and one axis expression an axis::

    n (g i) ., (g o) i ., (g o) -> n (g o) .        a grouped convolution
    ... m k, ... k n -> ... m n                      a matrix product
    n a ., n b . -> n [a|b] .                        a concatenation

===========  ==========================================================================================================
``c``        a *factor*: axes with the same factor are the same axis, position by position
``(h d)``    a product of factors, the last one running fastest
``[a|b]``    a concatenation of factors
``c@i``      positions ``i`` of factor ``c``, in that order; ``i`` is an index array given beside the text
``1``        an axis of length one
``.``        a frozen axis; as the last of a term: all the axes that remain, also none
``...``      axes broadcast as in numpy: right-aligned, and axes of length one are not tied; once a term
``~c``       a factor over which the operator takes a statistic: removing a position changes what is left
``!c``       a frozen factor
``+c``       a factor that the operator makes itself, as Pad and Expand do; without the mark a result's factor must be in an operand
===========  ==========================================================================================================

A factor that no output holds is *contracted*: the operator sums products over it, so that a position may go where one of
the operands is zero. A factor that only stands inside ``[...]`` or before ``@`` of the inputs is merely dropped.
An operand that a node leaves out is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.errors import RuleError

Zeros = tuple[tuple[int, ...], ...]
"""When an output is zero: in *each* inner tuple at *least one* of those operands is. ``((0, 1), (2,))`` is x·w + b."""

LINEAR: Zeros = ((0,),)
PRODUCT: Zeros = ((0, 1),)
AFFINE: Zeros = ((0, 1), (2,))


@dataclass(frozen=True)
class Axis:
    """One axis of a term. ``kind`` is ``factor``, ``product``, ``concat``, ``take``, ``frozen``, ``rest``, ``one`` or ``broadcast``.

    ``factors`` are its names, without their marks; ``index`` names the index array of a ``take``.
    """

    kind: Literal["factor", "product", "concat", "take", "frozen", "rest", "one", "broadcast"]
    factors: tuple[str, ...] = ()
    index: str = ""


Term = tuple[Axis, ...]


@dataclass(frozen=True)
class Grammar:
    """A parsed relation: a term an operand, a term a result, and what its factors are."""

    text: str
    inputs: tuple[Term, ...]
    outputs: tuple[Term, ...]
    statistic: frozenset[str]
    frozen: frozenset[str]
    contracted: frozenset[str]
    indices: frozenset[str]


@dataclass(frozen=True)
class Rel:
    """What a rule returns for a node: the relation, and what its text cannot say.

    Attributes:
        text: the relation, in the language of this module.
        sizes: lengths of factors that no axis alone shows (convolution groups, block sizes).
        indices: index arrays, shape (length of the axis,), for ``c@i``.
        zeros: when an output is zero, see :data:`Zeros`; ``None`` if nothing can be said.
        why: the reason kept with the axes that the relation freezes by ``.`` or ``!``.
        shape_inputs: operands that hold sizes, which a repair rewrites; sizes they were computed from do not bind.
    """

    text: str
    sizes: Mapping[str, int] = field(default_factory=dict)
    indices: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    zeros: Zeros | None = None
    why: str = ""
    shape_inputs: tuple[int, ...] = ()

    @property
    def grammar(self) -> Grammar:
        """The parsed text. Raises RuleError if it is malformed."""
        return parse(self.text)


_TOKEN = re.compile(r"\s*(\.\.\.|->|[.,()|@\[\]~!+]|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|\S)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class _Parser:
    """Recursive descent over the tokens of one relation."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [(m.group(1), m.start(1)) for m in _TOKEN.finditer(text)]
        self.at = 0
        self.statistic: set[str] = set()
        self.frozen: set[str] = set()
        self.made: set[str] = set()

    def fail(self, what: str, back: int = 0) -> RuleError:
        k = self.at - back
        where = f"at column {self.tokens[k][1] + 1}" if k < len(self.tokens) else "at its end"
        return RuleError(f"relation {self.text!r}: {what} {where}")

    def peek(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def factor(self) -> str:
        mark = self.take() if self.peek() in ("~", "!", "+") else ""
        name = self.take()
        if not _NAME.match(name):
            raise self.fail(f"a factor's name is missing, found {name!r}" if name else "a factor's name is missing", 1)
        if mark:
            {"~": self.statistic, "!": self.frozen, "+": self.made}[mark].add(name)
        return name

    def axis(self) -> Axis:
        token = self.peek()
        if token in (".", "..."):
            self.take()
            return Axis("frozen" if token == "." else "broadcast")
        if token == "1":
            self.take()
            return Axis("one")
        if token == "(":
            return Axis("product", self.several("(", ")", ""))
        if token == "[":
            return Axis("concat", self.several("[", "]", "|"))
        name = self.factor()
        if self.peek() == "@":
            self.take()
            return Axis("take", (name,), self.factor())
        return Axis("factor", (name,))

    def several(self, opening: str, closing: str, between: str) -> tuple[str, ...]:
        start = self.at
        self.take()
        names = [self.factor()] if self.peek() != closing else []
        while self.peek() not in (closing, ""):
            if between and self.take() != between:
                raise self.fail(f"{between!r} or {closing!r} is missing", 1)
            names.append(self.factor())
        if self.peek() != closing:
            self.at = start
            raise self.fail(f"{opening!r} is not closed")
        self.take()
        if not names:
            self.at = start
            raise self.fail(f"{opening + closing!r} is empty")
        return tuple(names)

    def term(self) -> Term:
        axes: list[Axis] = []
        while self.peek() not in (",", "->", ""):
            axis = self.axis()
            if axis.kind == "broadcast" and any(a.kind == "broadcast" for a in axes):
                raise self.fail("a term has more than one '...'", 1)
            axes.append(axis)
        if axes and axes[-1].kind == "frozen":
            if any(a.kind == "broadcast" for a in axes):
                raise self.fail("'...' and a closing '.' cannot stand in one term", 1)
            axes[-1] = Axis("rest")
        return tuple(axes)

    def side(self) -> tuple[Term, ...]:
        terms = [self.term()]
        while self.peek() == ",":
            self.take()
            terms.append(self.term())
        return tuple(terms)


def _direct(terms: tuple[Term, ...]) -> set[str]:
    return {f for t in terms for a in t if a.kind in ("factor", "product") for f in a.factors}


@lru_cache(maxsize=4096)
def parse(text: str) -> Grammar:
    """Parse a relation.

    Raises:
        RuleError: naming the column, if the text is malformed; if a result's factor is in no operand and not marked ``+``; if a
            factor stands twice in one product.
    """
    p = _Parser(text)
    inputs = p.side()
    if p.take() != "->":
        raise p.fail("'->' is missing", 1)
    outputs = p.side()
    if p.peek():
        raise p.fail(f"unexpected {p.peek()!r}")
    for axis in (a for t in (*inputs, *outputs) for a in t):
        if axis.kind == "product" and len(set(axis.factors)) < len(axis.factors):
            raise RuleError(f"relation {text!r}: a factor stands twice in ({' '.join(axis.factors)})")
    every = [a for t in (*inputs, *outputs) for a in t]
    given = {f for t in inputs for a in t for f in a.factors}
    held = {f for t in outputs for a in t for f in a.factors}
    if stray := sorted(held - given - p.made - p.frozen):
        raise RuleError(
            f"relation {text!r}: factor {stray[0]!r} of a result is in no operand (one that the operator makes is +{stray[0]})"
        )
    return Grammar(
        text=text,
        inputs=inputs,
        outputs=outputs,
        statistic=frozenset(p.statistic),
        frozen=frozenset(p.frozen - p.made),
        contracted=frozenset(_direct(inputs) - held),
        indices=frozenset(a.index for a in every if a.index),
    )


class NodeView:
    """What a rule may ask of a node: operator, attributes, shapes, constants."""

    __slots__ = ("node", "opset")

    def __init__(self, node: ir.Node, opset: int) -> None:
        self.node = node
        self.opset = opset

    @property
    def op(self) -> str:
        """The operator's name, without domain."""
        return self.node.op_type

    @property
    def inputs(self) -> int:
        """The number of operands, left-out ones included."""
        return len(self.node.inputs)

    @property
    def outputs(self) -> int:
        """The number of results."""
        return len(self.node.outputs)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value, or the default."""
        a = self.node.attributes.get(name)
        return default if a is None else a.value

    def has(self, i: int) -> bool:
        """Whether operand ``i`` is given."""
        return i < len(self.node.inputs) and self.node.inputs[i] is not None

    def shape(self, i: int) -> tuple[int | str | None, ...]:
        """Operand ``i``'s lengths: a number, a symbol's name, or None. Raises RuleError if its rank is unknown."""
        return shape_of(self.node.inputs[i] if self.has(i) else None)

    def out_shape(self, i: int = 0) -> tuple[int | str | None, ...]:
        """Result ``i``'s lengths, as in :meth:`shape`."""
        return shape_of(self.node.outputs[i])

    def rank(self, i: int) -> int:
        """Operand ``i``'s number of axes."""
        return len(self.shape(i))

    def size(self, i: int, axis: int) -> int:
        """A known length. Raises RuleError if it is dynamic."""
        n = self.shape(i)[axis]
        if not isinstance(n, int):
            raise RuleError(f"axis {axis} of {self.node.inputs[i].name} has no fixed length")  # type: ignore[union-attr]
        return n

    def const(self, i: int) -> NDArray[Any] | None:
        """Operand ``i``'s value if it is constant, else None."""
        v = self.node.inputs[i] if self.has(i) else None
        return None if v is None or v.const_value is None or v.is_graph_input() else v.const_value.numpy()

    def ints(self, i: int) -> list[int]:
        """Operand ``i``'s value as integers. Raises RuleError if it is not constant."""
        c = self.const(i)
        if c is None:
            raise RuleError(f"input {i} is not a constant")
        return [int(x) for x in np.asarray(c).reshape(-1)]

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis. Raises RuleError if it is out of range."""
        if not -rank <= axis < rank:
            raise RuleError(f"axis {axis} is out of range for rank {rank}")
        return axis % rank


def shape_of(value: ir.Value | None) -> tuple[int | str | None, ...]:
    """A value's lengths: numbers, symbols' names, or None. Raises RuleError if its rank is unknown."""
    if value is None or value.shape is None:
        raise RuleError(f"the shape of {value.name if value is not None else 'an operand'} is unknown")
    return tuple(d if isinstance(d, int) else d.value for d in value.shape.dims)


RuleFunction = Callable[[NodeView], Rel]
_RULES: dict[tuple[str, str], RuleFunction] = {}


def rule(*ops: str, domain: str = "") -> Callable[[RuleFunction], RuleFunction]:
    """Register a function as the rule of operators. Raises RuleError if one has a rule already."""

    def register(function: RuleFunction) -> RuleFunction:
        for op in ops:
            if (domain, op) in _RULES:
                raise RuleError(f"{op} has two rules: {_RULES[domain, op].__qualname__} and {function.__qualname__}")
            _RULES[domain, op] = function
        return function

    return register


def rule_of(domain: str, op: str) -> RuleFunction | None:
    """The rule of an operator, if it has one. Rules are loaded on first use."""
    import edgeprune.rules

    edgeprune.rules.load()
    return _RULES.get(("" if domain == "ai.onnx" else domain, op))


def names(prefix: str, count: int) -> list[str]:
    """``prefix0 prefix1 ...``: factors for axes that a rule only counts."""
    return [f"{prefix}{k}" for k in range(count)]


def product(sizes: list[int]) -> int:
    """The product of lengths; 1 for none."""
    return math.prod(sizes)
