"""Numbers that stand in for open lengths."""

from __future__ import annotations

from edgeprune.lengths import StandIns


def test_every_symbol_has_a_prime_and_a_length_the_value_of_its_polynomial() -> None:
    numbers = StandIns()
    n, h = numbers.number("n"), numbers.number("h")
    assert (n, h) == (11, 13)
    assert numbers.number("4*n") == 44
    assert numbers.number("h*n + 1") == 144
    assert numbers.number("(h//2)") == 17, "what a quotient leaves over is unknown"
    assert numbers.number(7) == 7
    assert numbers.number(None) is None


def test_a_length_that_would_vanish_has_a_prime_of_its_own() -> None:
    numbers = StandIns()
    found = numbers.number("n - 10")
    assert found == 13
    assert numbers.number("n - 10") == found
