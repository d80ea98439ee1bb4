"""Numbers that stand in for open lengths, so that an analysis can enumerate the positions of an axis.

An axis of length ``4*n`` whose factors are n and 4 is enumerated with a prime for n. Nothing that is found may depend
on the prime: which axes correspond is decided on lengths as polynomials (:mod:`edgeprune.lengths.arithmetic`).
"""

from __future__ import annotations

from edgeprune.lengths.arithmetic import evaluate
from edgeprune.lengths.text import Dim, symbols

_FIRST = 11
"""Smaller primes are lengths of real axes."""


class StandIns:
    """Every symbol gets a prime of its own when it is first seen; a length gets the value of its polynomial."""

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}
        self._next = _FIRST

    def number(self, dim: Dim) -> int | None:
        """The number of a length, at least 2 for an open one; None if it is unknown."""
        if dim is None or isinstance(dim, int):
            return dim
        for symbol in symbols(dim):
            if symbol not in self._sizes:
                self._sizes[symbol] = self._prime()
        value = evaluate(dim, self._sizes)
        if value is None or value < 2:
            value = self._sizes[dim] = self._sizes.get(dim) or self._prime()
        return value

    def _prime(self) -> int:
        prime = self._next
        self._next += 2
        while any(self._next % k == 0 for k in range(3, int(self._next**0.5) + 1, 2)):
            self._next += 2
        return prime
