"""Arithmetic on open lengths: texts are canonical, and give the right number at every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import lengths
from edgeprune.lengths import Dim

SIZES = {"n": 3, "h": 37, "w": 50}


def test_texts() -> None:
    half = lengths.add(lengths.floor_divide(lengths.subtract("h", 1), 2), 1)
    assert half == "((h + 1)//2)"
    assert lengths.floor_divide(half, 2) == "((h + 1)//4)"
    assert lengths.multiply(2, half) == "2*((h + 1)//2)"
    assert lengths.product(["n", 4, "h"]) == "4*h*n"
    assert lengths.floor(lengths.multiply("h", "1/2")) == "(h//2)"
    assert lengths.ceil(lengths.multiply("h", "1/2")) == "((h + 1)//2)"
    assert lengths.add(lengths.product(["n", "h"]), lengths.subtract("n", "n")) == "h*n"


def test_quotients_that_divide_are_polynomials() -> None:
    tokens = lengths.add(lengths.multiply("(h//8)", "(w//8)"), 1)
    assert lengths.divide(lengths.product([tokens, "n", 4]), tokens) == "4*n"
    assert lengths.is_divisible("64*n", "8*n")
    assert not lengths.is_divisible("8*n", "16")
    assert lengths.divide("n", 0) is None


def test_what_is_unknown_stays_unknown() -> None:
    assert lengths.add(None, 3) is None
    assert lengths.product(["n", None]) is None
    assert lengths.largest(["n", None]) is None


@pytest.mark.parametrize("name", ["batch size", "batch-size", "a,b", "x(1", "s0//2", "7", "1n"])
def test_a_name_that_is_no_length_is_one_symbol(name: str) -> None:
    if name != "7":
        assert lengths.symbols(name) == (name,)
    assert lengths.divide(lengths.multiply("batch-size", 4), 4) == "batch-size"


def test_broadcasting() -> None:
    assert lengths.broadcast([1, "n"]) == "n"
    assert lengths.broadcast(["n", 7, 1]) == 7
    assert lengths.broadcast(["n", "h"]) == "max(h, n)"
    assert lengths.broadcast([1, 1]) == 1


def test_bounds() -> None:
    assert lengths.at_least("n", 1)
    assert lengths.at_least("h*w + 1", 2)
    assert lengths.at_least("(h//8)", 1) is None
    assert lengths.at_least("n - 1", 1) is None
    assert lengths.at_least(3, 4) is False


LEAVES = st.sampled_from(["n", "h", "w", 1, 2, 3, 8])
OPERATIONS = st.sampled_from(["add", "multiply", "floor_divide", "largest", "smallest"])


@given(st.lists(st.tuples(OPERATIONS, LEAVES), max_size=6), LEAVES)
def test_every_operation_is_right_at_a_size(steps: list[tuple[str, Dim]], first: Dim) -> None:
    value, number = first, SIZES.get(str(first), first)
    for name, operand in steps:
        right = SIZES.get(str(operand), operand)
        assert isinstance(number, int)
        assert isinstance(right, int)
        match name:
            case "add":
                value, number = lengths.add(value, operand), number + right
            case "multiply":
                value, number = lengths.multiply(value, operand), number * right
            case "floor_divide":
                value, number = lengths.floor_divide(value, operand), number // right
            case "largest":
                value, number = lengths.largest([value, operand]), max(number, right)
            case _:
                value, number = lengths.smallest([value, operand]), min(number, right)
    assert lengths.evaluate(value, SIZES) == number


@given(LEAVES, LEAVES, LEAVES)
def test_equal_lengths_have_equal_texts(a: Dim, b: Dim, c: Dim) -> None:
    assert lengths.multiply(a, lengths.add(b, c)) == lengths.add(lengths.multiply(c, a), lengths.multiply(b, a))
    assert lengths.floor_divide(lengths.floor_divide("h", 2), 3) == lengths.floor_divide("h", 6)
