"""Polynomials of symbols with fractions as coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeAlias

Monomial: TypeAlias = tuple[str, ...]
Polynomial: TypeAlias = Mapping[Monomial, Fraction]
"""Sorted symbols (repeated for powers) -> coefficient, without zeros."""

MOST_TERMS = 24
"""A longer polynomial is not a length that a model needs; it becomes unknown."""


def constant(value: int | Fraction) -> Polynomial:
    """A number as a polynomial."""
    return {(): Fraction(value)} if value else {}


def plus(p: Polynomial, q: Polynomial, sign: int = 1) -> Polynomial:
    """The sum, or with ``sign`` -1 the difference."""
    out = dict(p)
    for names, c in q.items():
        out[names] = out.get(names, Fraction(0)) + sign * c
    return {names: c for names, c in out.items() if c}


def times(p: Polynomial, q: Polynomial) -> Polynomial:
    """The product."""
    out: dict[Monomial, Fraction] = {}
    for a, c in p.items():
        for b, d in q.items():
            names = tuple(sorted(a + b))
            out[names] = out.get(names, Fraction(0)) + c * d
    return {names: c for names, c in out.items() if c}


def _leading(p: Polynomial) -> Monomial:
    return max(p, key=lambda names: (len(names), names))


def exact_quotient(p: Polynomial, q: Polynomial) -> Polynomial | None:
    """Multivariate long division by graded leading terms; None if a remainder stays."""
    rest = dict(p)
    out: dict[Monomial, Fraction] = {}
    head = _leading(q)
    for _ in range(4 * MOST_TERMS):
        if not rest:
            return out
        top = _leading(rest)
        left = _without(top, head)
        if left is None:
            return None
        c = rest[top] / q[head]
        out[left] = c
        rest = dict(plus(rest, times({left: c}, q), -1))
    return None


def _without(names: Monomial, gone: Monomial) -> Monomial | None:
    left = list(names)
    for name in gone:
        if name not in left:
            return None
        left.remove(name)
    return tuple(left)
