"""How a length is written: the canonical text of a polynomial, and back."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from typing import TypeAlias

from edgeprune.lengths.polynomials import MOST_TERMS, Monomial, Polynomial, constant

Dim: TypeAlias = int | str | None
"""A length, its text, or None if it is unknown."""


def length(dim: Dim) -> Polynomial | None:
    """The polynomial of a length; None if it is unknown. A text that is not canonical is one symbol."""
    if dim is None:
        return None
    return constant(dim) if isinstance(dim, int) else _parsed(dim)


def text_of(polynomial: Polynomial) -> Dim:
    """A length as a number or a canonical text; None if it has too many terms."""
    if len(polynomial) > MOST_TERMS:
        return None
    if not polynomial:
        return 0
    if set(polynomial) == {()}:
        value = polynomial[()]
        return int(value) if value.denominator == 1 else str(value)
    parts: list[str] = []
    for symbols, c in sorted(polynomial.items(), key=lambda item: (-len(item[0]), item[0])):
        size = abs(c)
        factors = [*([str(size)] if size != 1 or not symbols else []), *symbols]
        sign = ("-" if c < 0 else "") if not parts else (" - " if c < 0 else " + ")
        parts.append(sign + "*".join(factors))
    return "".join(parts)


def symbols(dim: Dim) -> tuple[str, ...]:
    """The symbols of a length, each once."""
    return tuple(dict.fromkeys(s for names in (length(dim) or ()) for s in names))


def bracketed(dim: Dim) -> str:
    """The text of a length as an operand of a quotient."""
    text = str(dim)
    whole = unbracketed(text) != text
    return f"({text})" if not whole and (" " in text or "*" in text or text.startswith("-")) else text


@cache
def _parsed(text: str) -> Polynomial:
    """The polynomial of a text, or the text as one symbol if it is not how this module writes a length."""
    out: dict[Monomial, Fraction] = {}
    for sign, part in _terms(text):
        coefficient, names = Fraction(sign), []
        for factor in split(part, "*"):
            if re.fullmatch(r"\d+(/\d+)?", factor):
                coefficient *= Fraction(factor)
            else:
                names.append(factor)
        key = tuple(sorted(names))
        if key in out or "" in names or not all(_is_symbol(name) for name in names):
            return {(text,): Fraction(1)}
        out[key] = coefficient
    return out if text_of(out) == text else {(text,): Fraction(1)}


def _is_symbol(name: str) -> bool:
    """A name without operators, a quotient, or a call."""
    if re.fullmatch(r"[^\s*/(),+\d-][^\s*/(),+]*", name):
        return True
    return quotient_parts(name) is not None or bool(re.fullmatch(r"(max|min)\(.*\)", name))


def quotient_parts(name: str) -> tuple[Dim, Dim] | None:
    """Dividend and divisor of a symbol that is a quotient, else None."""
    inner = unbracketed(name)
    parts = split(inner, "//") if inner != name else []
    if len(parts) != 2 or "" in parts:
        return None
    first, second = (part if quotient_parts(part) else unbracketed(part) for part in parts)
    return dim_of(first), dim_of(second)


def dim_of(text: str) -> Dim:
    """A text as a length."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def unbracketed(text: str) -> str:
    """A text without the brackets around all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for mark in text[:-1]:
        depth += (mark == "(") - (mark == ")")
        if depth == 0:
            return text
    return text[1:-1]


def split(text: str, mark: str) -> list[str]:
    """Divide a text at a mark outside of brackets."""
    parts, depth, start, k = [], 0, 0, 0
    while k < len(text):
        depth += (text[k] == "(") - (text[k] == ")")
        if depth == 0 and text.startswith(mark, k):
            parts.append(text[start:k])
            start = k = k + len(mark)
        else:
            k += 1
    return [*parts, text[start:]]


def _terms(text: str) -> list[tuple[int, str]]:
    """Signs and terms of a sum."""
    found: list[tuple[int, str]] = []
    for k, plus in enumerate(split(text, " + ")):
        for j, part in enumerate(split(plus, " - ")):
            negative = j > 0
            if k == 0 and j == 0 and part.startswith("-"):
                negative, part = True, part[1:]
            found.append((-1 if negative else 1, part))
    return found
