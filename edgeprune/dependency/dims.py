"""Axis relations: how an operator relates the axes of its operands and results, as one line of a small language.

A relation is written like an einsum, with one term for each operand and one axis expression for each axis::

    n (g i) ., (g o) i ., (g o) -> n (g o) .        a grouped convolution
    ... m k, ... k n -> ... m n                      a MatMul
    n a ., n b . -> n [a|b] .                        a concatenation

===========  ==========================================================================================================
``c``        a *factor*: axes with the same factor are the same axis, position by position
``(h d)``    a product of factors, the last one varies fastest
``[a|b]``    a concatenation of factors
``c@i``      positions ``i`` of factor ``c``, in that order; ``i`` is an index array given beside the text
``1``        an axis of length one
``.``        a frozen axis; as the last of a term: all remaining axes, possibly none
``...``      axes broadcast as in NumPy: right-aligned, and axes of length one are not tied; at most once in a term
``~c``       a factor over which the operator computes a statistic: removing a position changes the other positions
``!c``       a frozen factor
``+c``       a factor that the operator itself makes, as Pad does; every other factor of a result is in an operand
===========  ==========================================================================================================

A factor that is in no output, and is not a statistic, is *contracted*: the operator sums over it, so a position may be
removed if one of the operands is zero there. A factor that is only inside ``[...]`` or before ``@`` of the inputs is
dropped. An operand that a node does not have is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.dependency.grammar import Axis as Axis
from edgeprune.dependency.grammar import Grammar as Grammar
from edgeprune.dependency.grammar import Term as Term
from edgeprune.dependency.grammar import parse as parse
from edgeprune.errors import RuleError
from edgeprune.graph import ONNX_DOMAINS, dim_keys, elements_of
from edgeprune.lengths import Dim

Zeros = tuple[tuple[int, ...], ...]
"""An output is zero if of *each* inner tuple *at least one* operand is zero. ``((0, 1), (2,))`` is x·w + b."""

LINEAR: Zeros = ((0,),)
PRODUCT: Zeros = ((0, 1),)
AFFINE: Zeros = ((0, 1), (2,))


@dataclass(frozen=True)
class Rel:
    """The result of a rule for a node: the relation, and what its text cannot express.

    Attributes:
        text: the relation, in the language of this module.
        sizes: lengths of factors that are not an axis alone (convolution groups, block sizes); open ones as text.
        indices: index arrays, shape (length of the axis,), for ``c@i``.
        zeros: when an output is zero, see :data:`Zeros`; ``None`` if it is unknown.
        why: the reason for axes that the relation freezes by ``.`` or ``!``.
        sums: (factor, operand, axis) that is summed over although a result has the factor, as in a recurrence.
        normalized_reads: (factor of an operand, factor of a result) of one axis; the result may lose positions that the
            operand keeps; the repair gathers the others. They are tied if separating them saves nothing.
        shape_inputs: operands that are sizes, which a repair rewrites; the lengths that they were computed from stay
            free.
    """

    text: str
    sizes: Mapping[str, int | str] = field(default_factory=dict)
    indices: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    zeros: Zeros | None = None
    why: str = ""
    shape_inputs: tuple[int, ...] = ()
    sums: tuple[tuple[str, int, int], ...] = ()
    normalized_reads: tuple[tuple[str, str], ...] = ()

    @property
    def grammar(self) -> Grammar:
        """The parsed text. Raises RuleError if it is malformed."""
        return parse(self.text)


class NodeView:
    """A node as rules see it: operator, attributes, shapes, constants."""

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
        """The number of operands, absent ones included."""
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

    def lengths(self, i: int) -> list[Dim]:
        """Operand ``i``'s elements as far as they are known: numbers, lengths as text, or None for the others.

        Raises:
            RuleError: nothing is known, not even how many there are.
        """
        value = self.node.inputs[i] if self.has(i) else None
        found = elements_of(value, {})
        if found is not None:
            return list(found.reshape(-1))
        dims = dim_keys(value) or (None,)
        if len(dims) != 1 or not isinstance(dims[0], int):
            raise RuleError(f"input {i} is not a constant")
        return [None] * dims[0]

    def axis(self, axis: int, rank: int) -> int:
        """A non-negative axis. Raises RuleError if it is out of range."""
        if not -rank <= axis < rank:
            raise RuleError(f"axis {axis} is out of range for rank {rank}")
        return axis % rank


def shape_of(value: ir.Value | None) -> tuple[int | str | None, ...]:
    """A value's lengths: numbers, symbols' names, or None. Raises RuleError if its rank is unknown."""
    if (dims := dim_keys(value)) is None:
        raise RuleError(f"the shape of {value.name if value is not None else 'an operand'} is unknown")
    return dims


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
    """The rule of an operator, if it has one. Importing `edgeprune.dependency.rules` registers the built-in ones."""
    return _RULES.get(("" if domain in ONNX_DOMAINS else domain, op))


def names(prefix: str, count: int) -> list[str]:
    """Numbered factors ``prefix0 prefix1 ...``."""
    return [f"{prefix}{k}" for k in range(count)]
