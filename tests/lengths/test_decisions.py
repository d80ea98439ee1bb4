"""Integer arithmetic and comparisons on open lengths."""

from __future__ import annotations

import pytest

from edgeprune.lengths import Dim, equal, evaluate, greater, mod, quotient, truncated


@pytest.mark.parametrize(("a", "b", "found"), [(7, 2, 3), (-7, 2, -3), (7, -2, -3), (7, 0, None), ("4*n", 2, "2*n")])
def test_quotients_round_towards_zero(a: Dim, b: Dim, found: Dim) -> None:
    assert quotient(a, b) == found


def test_remainders() -> None:
    assert mod("6*n", 3) == 0
    assert [evaluate(mod("n", 4), {"n": n}) for n in (3, 4, 9)] == [3, 0, 1]
    assert mod("n", 0) is mod("n", -2) is None


def test_fractions_are_rounded_down() -> None:
    assert truncated("7/2") == 3
    assert truncated("n") == "n"


@pytest.mark.parametrize(
    ("a", "b", "same", "more"),
    [(3, 3, 1, 0), (4, 3, 0, 1), ("n", "n", 1, 0), ("n + 1", "n", 0, 1), ("n", "m", None, None), ("n", 0, 0, 1)],
)
def test_comparisons(a: Dim, b: Dim, same: Dim, more: Dim) -> None:
    assert (equal(a, b), greater(a, b)) == (same, more)
