"""Arithmetic on lengths that are not known as numbers: ``64*n``, ``n*h*w + 1``, ``((h + 1)//2)``.

A length is written as a polynomial of symbols, with integers (or, on the way, fractions) as coefficients. A quotient
that does not divide, a maximum and a minimum are symbols themselves. The text of a length is canonical: equal texts are
equal lengths. It is stored where ONNX stores the name of a dimension, so every tool can still read the model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

from edgeprune.lengths.polynomials import Polynomial, constant, exact_quotient, plus, times
from edgeprune.lengths.text import Dim, bracketed, dim_of, length, quotient_parts, split, text_of


def add(a: Dim, b: Dim) -> Dim:
    """The sum."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return _combined(a, b, plus)


def subtract(a: Dim, b: Dim) -> Dim:
    """The difference."""
    return _combined(a, b, lambda p, q: plus(p, q, -1))


def multiply(a: Dim, b: Dim) -> Dim:
    """The product; 0 times an unknown length is unknown."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return _combined(a, b, times)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of several lengths."""
    result: Dim = 1
    for dim in dims:
        result = multiply(result, dim)
    return result


def divide(a: Dim, b: Dim) -> Dim:
    """The quotient if it is a polynomial (fractions allowed), else None."""
    p, q = length(a), length(b)
    if p is None or not q:
        return None
    quotient = exact_quotient(p, q)
    return None if quotient is None else text_of(quotient)


def is_divisible(a: Dim, b: Dim) -> bool:
    """Whether ``b`` divides ``a`` for all sizes."""
    p, q = length(a), length(b)
    quotient = exact_quotient(p, q) if p is not None and q else None
    return quotient is not None and all(c.denominator == 1 for c in quotient.values())


def floor_divide(a: Dim, b: Dim) -> Dim:
    """The quotient, rounded down; a symbol of its own if it does not divide."""
    p, q = length(a), length(b)
    if p is None or not q:
        return None
    quotient = exact_quotient(p, q)
    if quotient is not None:
        return floor(text_of(quotient))
    return None if None in (a, b) else f"({bracketed(text_of(p))}//{bracketed(text_of(q))})"


def floor(a: Dim) -> Dim:
    """A length with fractions, rounded down. Whole multiples are taken out: ``(2*h + 1)/2`` gives ``h``."""
    p = length(a)
    if p is None:
        return None
    k = math.lcm(*(c.denominator for c in p.values())) if p else 1
    if k == 1:
        return text_of(p)
    whole = {symbols: Fraction(math.floor(c)) for symbols, c in p.items() if math.floor(c)}
    rest = {symbols: c * k - math.floor(c) * k for symbols, c in p.items() if c != math.floor(c)}
    if set(rest) == {()}:
        return text_of(whole)
    nested = _nested(rest, k)
    if nested is not None:
        return add(text_of(whole), nested)
    numerator = text_of(rest)
    return None if numerator is None else add(text_of(whole), f"({bracketed(numerator)}//{k})")


def _nested(p: Polynomial, k: int) -> Dim:
    """``((h + 1)//2 + c)//k`` as one quotient, ``(h + 1 + 2*c)//(2*k)``; None if it has another form."""
    inner = [names for names in p if names]
    parts = quotient_parts(inner[0][0]) if len(inner) == 1 and len(inner[0]) == 1 and p[inner[0]] == 1 else None
    if parts is None or not isinstance(parts[1], int):
        return None
    shift = p.get((), Fraction(0)) * parts[1]
    return floor_divide(add(parts[0], int(shift)), parts[1] * k)


def ceil(a: Dim) -> Dim:
    """A length with fractions, rounded up."""
    p = length(a)
    if p is None:
        return None
    k = math.lcm(*(c.denominator for c in p.values())) if p else 1
    return floor(text_of(plus(p, constant(Fraction(k - 1, k)))))


def largest(dims: Sequence[Dim]) -> Dim:
    """The maximum, as a symbol if the order depends on sizes. Lengths are at least one."""
    return _extreme("max", dims)


def smallest(dims: Sequence[Dim]) -> Dim:
    """The minimum, as a symbol if the order depends on sizes."""
    return _extreme("min", dims)


def broadcast(dims: Sequence[Dim]) -> Dim:
    """The length of axes that are broadcast together; one that is not 1 decides, and of open ones the longest."""
    numbers = [d for d in dims if isinstance(d, int) and d != 1]
    if numbers:
        return numbers[0]
    rest = list(dict.fromkeys(d for d in dims if d != 1))
    if not rest:
        return 1
    return rest[0] if len(rest) == 1 else largest(rest)


def at_least(a: Dim, least: int) -> bool | None:
    """Whether a length is at least a number for all sizes from one on; None if that depends on sizes."""
    p = length(a)
    if p is None:
        return None
    if set(p) <= {()}:
        return p.get((), Fraction(0)) >= least
    if all(c > 0 for symbols, c in p.items() if symbols):
        # A quotient may be zero; every other symbol is at least one.
        low = sum(c for symbols, c in p.items() if not any("//" in s for s in symbols))
        return True if low >= least else None
    return None


def evaluate(dim: Dim, sizes: Mapping[str, int]) -> int | None:
    """A length at given sizes of symbols; None if a symbol has none, or the result is not a whole number."""
    p = length(dim)
    if p is None:
        return None
    total = Fraction(0)
    for names, c in p.items():
        for name in names:
            value = _symbol_value(name, sizes)
            if value is None:
                return None
            c *= value
        total += c
    return int(total) if total.denominator == 1 else None


def _symbol_value(name: str, sizes: Mapping[str, int]) -> int | None:
    if name in sizes:
        return sizes[name]
    inner = quotient_parts(name)
    if inner is not None:
        a, b = (evaluate(part, sizes) for part in inner)
        return None if a is None or not b else a // b
    call = re.fullmatch(r"(max|min)\((.*)\)", name)
    if call:
        values = [evaluate(dim_of(part), sizes) for part in split(call[2], ", ")]
        known = [v for v in values if v is not None]
        return None if len(known) < len(values) else (max if call[1] == "max" else min)(known)
    return None


def _combined(a: Dim, b: Dim, function: Callable[[Polynomial, Polynomial], Polynomial]) -> Dim:
    p, q = length(a), length(b)
    return None if p is None or q is None else text_of(function(p, q))


def _extreme(word: str, dims: Sequence[Dim]) -> Dim:
    if None in dims:
        return None
    chosen: list[Dim] = list(dict.fromkeys(dims))
    numbers = [d for d in chosen if isinstance(d, int)]
    if len(numbers) > 1:
        number = (max if word == "max" else min)(numbers)
        chosen = [*(d for d in chosen if not isinstance(d, int)), number]
    if word == "max":
        texts = [d for d in chosen if isinstance(d, str)]
        chosen = [d for d in chosen if not (isinstance(d, int) and any(at_least(t, d) for t in texts))]
    else:
        low = [d for d in chosen if isinstance(d, int)]
        chosen = [d for d in chosen if not (isinstance(d, str) and low and at_least(d, low[0]))]
    if len(chosen) == 1:
        return chosen[0]
    return f"{word}({', '.join(sorted(map(str, chosen)))})"
