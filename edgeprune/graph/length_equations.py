"""What a model needs of its open lengths: equations between them and the lengths of its constants.

Exporters with an open batch bake the batch of the example into the targets of attention: ``Reshape(x[n, 196, 576],
[1, 196, 3, 4, 48])`` only runs where n is 1. A table of 197 positions that is added to ``(h//16)*(w//16) + 1`` tokens
fits a 224x224 image.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from edgeprune import lengths
from edgeprune.graph.batch_axis import data_inputs
from edgeprune.graph.edit import ONNX_DOMAINS, constant, dim_keys, input_at, is_op
from edgeprune.graph.length_elements import Memo, elements_of
from edgeprune.lengths import Dim

Sizes = Mapping[str, int]
"""Symbol -> size."""
_SAMPLE = 5040
"""Divisible by all strides: every quotient of it is a whole number."""
_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Where", "PRelu"})


@dataclass(frozen=True)
class Equation:
    """Two lengths that must agree.

    Attributes:
        node: name of the node that needs it.
        left: a length, open.
        right: another, or a number.
        or_one: whether a length of one is fine as well, as it is broadcast.
    """

    node: str
    left: Dim
    right: Dim
    or_one: bool = False

    def depends_on(self, symbol: str, symbols: Sequence[str]) -> bool:
        """Whether the left length has a symbol among others."""
        return lengths.evaluate(self.left, {name: _SAMPLE for name in symbols if name != symbol}) is None

    def is_decided(self, symbols: Sequence[str]) -> bool:
        """Whether sizes of these symbols decide it."""
        sizes = dict.fromkeys(symbols, _SAMPLE)
        return None not in (lengths.evaluate(self.left, sizes), lengths.evaluate(self.right, sizes))

    def holds(self, sizes: Sizes) -> bool:
        """Whether it holds at given sizes, which decide it. A fraction is no length."""
        left, right = lengths.evaluate(self.left, sizes), lengths.evaluate(self.right, sizes)
        return None not in (left, right) and (left == right or (self.or_one and 1 in (left, right)))


def equations(model: ir.Model) -> list[Equation]:
    """What the nodes of the main graph need of the open lengths of the inputs, each once. Shapes are inferred."""
    symbols = [d for value in data_inputs(model) for d in dim_keys(value) or () if isinstance(d, str)]
    if not symbols:
        return []
    found: dict[tuple[Dim, Dim, bool], Equation] = {}
    memo: Memo = {}
    for node in model.graph:
        if node.domain in ONNX_DOMAINS:
            for left, right, or_one in _needed(node, memo):
                if left is not None and right is not None and left != right and (isinstance(left, str)):
                    found.setdefault((left, right, or_one), Equation(node.name or node.op_type, left, right, or_one))
    return [equation for equation in found.values() if equation.is_decided(symbols)]


def _needed(node: ir.Node, memo: Memo) -> Iterator[tuple[Dim, Dim, bool]]:
    yield from _elements(node, memo)
    shapes = [dims for value in node.inputs if value is not None and (dims := dim_keys(value)) is not None]
    if node.op_type in _BROADCAST and len(shapes) == len(node.inputs):
        for back in range(1, max(map(len, shapes)) + 1):
            yield from _alike([dims[-back] for dims in shapes if len(dims) >= back], or_one=True)
    elif is_op(node, "Concat") and shapes:
        axis = node.attributes.get_int("axis", 1) % len(shapes[0])
        for k in range(len(shapes[0])):
            if k != axis:
                yield from _alike([dims[k] for dims in shapes if k < len(dims)], or_one=False)
    elif is_op(node, "MatMul") and len(shapes) == 2 and all(len(dims) > 1 for dims in shapes):
        yield from _alike([shapes[0][-1], shapes[1][-2]], or_one=False)
    elif is_op(node, "Gemm") and len(shapes) > 1 and all(len(dims) == 2 for dims in shapes[:2]):
        first, second = (node.attributes.get_int(name, 0) for name in ("transA", "transB"))
        yield from _alike([shapes[0][0 if first else 1], shapes[1][1 if second else 0]], or_one=False)
    elif is_op(node, "LayerNormalization") and len(shapes) > 1:
        for back in range(1, min(map(len, shapes[:2])) + 1):
            yield from _alike([shapes[0][-back], shapes[1][-back]], or_one=True)


def _alike(dims: list[Dim], *, or_one: bool) -> Iterator[tuple[Dim, Dim, bool]]:
    """Each open length and one that it must agree with: a number if there is one."""
    several = [d for d in dict.fromkeys(dims) if not (or_one and d == 1)]
    several.sort(key=lambda d: isinstance(d, int), reverse=True)
    yield from ((d, several[0], or_one) for d in several[1:])


def _elements(node: ir.Node, memo: Memo) -> Iterator[tuple[Dim, Dim, bool]]:
    """The elements before and after a Reshape; the length that a Split divides, and its parts."""
    dims = dim_keys(input_at(node, 0))
    if dims is None or all(isinstance(d, int) for d in dims):
        return
    if is_op(node, "Reshape"):
        found = elements_of(input_at(node, 1), memo)
        target = [] if found is None else list(found.reshape(-1))
        if not target or None in target or (0 in target and bool(node.attributes.get_int("allowzero", 0))):
            return
        kept = {k for k, d in enumerate(target) if d == 0}
        whole = lengths.product([d for k, d in enumerate(dims) if k not in kept])
        parts = lengths.product([d for d in target if d not in (0, -1)])
        if -1 in target:
            parts = lengths.multiply(parts, lengths.floor_divide(whole, parts))
        yield whole, parts, False
    given, axis = constant(input_at(node, 1)), node.attributes.get_int("axis", 0)
    if is_op(node, "Split") and given is not None and -len(dims) <= axis < len(dims):
        yield dims[axis], int(given.sum()), False


_MOST = 2048
"""The largest size that is tried."""
_MOST_STEPS = 48
"""Sizes of two axes that differ are multiples of the stride up to this many."""


def solutions(needed: Sequence[Equation], free: Sequence[str], known: Sizes, steps: Sizes) -> list[Sizes]:
    """Sizes of symbols at which equations hold: equal ones first, multiples of the total stride before others.

    Sizes at which a length of one is broadcast come last.

    Args:
        needed: of a model.
        free: symbols, of which those that have to be a certain number are solved.
        known: sizes of all other symbols.
        steps: the total stride of each of them.

    Returns:
        Sizes of the symbols that the equations with numbers have; nothing if there are none, or they have no solution.
    """
    symbols, numbers = [*free, *known], [e for e in needed if isinstance(e.right, int)]
    bound = [s for s in free if any(e.depends_on(s, symbols) for e in numbers)]
    if not bound:
        return []

    rest = dict.fromkeys(free, _SAMPLE)
    needed = [e for e in needed if not any(e.depends_on(s, symbols) for s in free if s not in bound)]

    def fits(sizes: Sizes) -> bool:
        return all(e.holds({**rest, **known, **sizes}) for e in needed)

    def rank(sizes: Sizes) -> tuple[bool, bool]:
        one = any(lengths.evaluate(e.left, {**rest, **known, **sizes}) != e.right for e in numbers)
        return one, any(size % steps[symbol] for symbol, size in sizes.items())

    equal = [dict.fromkeys(bound, size) for size in range(1, _MOST + 1)]
    found = [sizes for sizes in equal if fits(sizes)]
    if not found and len(bound) == 2:
        tried = [[steps[symbol] * k for k in range(1, _MOST_STEPS + 1)] for symbol in bound]
        pairs = (dict(zip(bound, pair, strict=True)) for pair in itertools.product(*tried))
        found = [sizes for sizes in pairs if fits(sizes)]
    return sorted(found, key=rank)


def forced_lengths(model: ir.Model) -> dict[str, int]:
    """Symbol -> the only length at which the model runs, for symbols of input axes. Shapes are inferred."""
    free = {d for value in data_inputs(model) for d in dim_keys(value) or () if isinstance(d, str)}
    found: dict[str, int] = {}
    memo: Memo = {}
    for node in model.graph if free else ():
        for computed, number, or_one in _needed(node, memo) if node.domain in ONNX_DOMAINS else ():
            if not isinstance(number, int) or or_one:
                continue
            for symbol in free.intersection(lengths.symbols(computed)):
                times = lengths.divide(computed, symbol)
                if isinstance(times, int) and times > 0 and number > 0 and number % times == 0:
                    found.setdefault(symbol, number // times)
    return found


def fix_inputs(model: ir.Model, sizes: dict[str, int]) -> dict[str, ir.Shape]:
    """Give axes of inputs, in place, the length of their symbol; returns the shapes before, by input."""
    before: dict[str, ir.Shape] = {}
    for value in data_inputs(model):
        dims = dim_keys(value)
        if dims is not None and value.shape is not None and any(d in sizes for d in dims):
            before[value.name or ""] = value.shape
            value.shape = ir.Shape([sizes.get(str(d), d) for d in dims])
    return before
