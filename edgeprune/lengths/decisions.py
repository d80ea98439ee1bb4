"""Integer arithmetic and comparisons as ONNX defines them, on open lengths: undecided ones are None."""

from __future__ import annotations

from fractions import Fraction

from edgeprune.lengths.arithmetic import at_least, floor, floor_divide, multiply, subtract
from edgeprune.lengths.text import Dim, symbols


def truncated(a: Dim) -> Dim:
    """A length with fractions as an integer; it is not negative, so it is rounded down."""
    if isinstance(a, str) and symbols(a) == ():
        return int(Fraction(a))
    return floor(a)


def quotient(a: Dim, b: Dim) -> Dim:
    """Integer division, which rounds towards zero."""
    if isinstance(a, int) and isinstance(b, int):
        return None if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return None if b == 0 else floor_divide(a, b)


def mod(a: Dim, b: Dim) -> Dim:
    """The remainder by a positive number."""
    if b == 0 or (isinstance(b, int) and b < 0):
        return None
    return subtract(a, multiply(b, floor_divide(a, b)))


def equal(a: Dim, b: Dim) -> Dim:
    """1, 0, or None if it depends on sizes; a length is never negative."""
    if None in (a, b):
        return None
    if a == b or (isinstance(a, int) and isinstance(b, int)):
        return int(a == b)
    difference = subtract(a, b)
    for sign in (1, -1):
        if at_least(multiply(difference, sign), 1):
            return 0
    return None


def greater(a: Dim, b: Dim) -> Dim:
    """1, 0, or None if it depends on sizes."""
    if isinstance(a, int) and isinstance(b, int):
        return int(a > b)
    more, less = subtract(a, b), subtract(b, a)
    return 1 if at_least(more, 1) else 0 if at_least(less, 0) else None
