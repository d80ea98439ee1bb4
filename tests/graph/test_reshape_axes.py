from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.graph.reshape_axes import aligned_groups, constant_target
from edgeprune.lengths import Dim

Shape = tuple[Dim, ...]


@pytest.mark.parametrize(
    ("source", "target", "groups"),
    [
        ((2, 6, 5), (2, 3, 2, 5), [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]),
        (("n", 3, 4), ("n", 12), [((0,), (0,)), ((1, 2), (1,))]),
        ((1, 6), (6, 1), [((1,), (0,))]),
        (("n", 8, 3), ("8*n", 3), [((0, 1), (0,)), ((2,), (1,))]),
        ((None, 6), (None, 6), []),
        ((4, 6), (6, 4), [((0, 1), (0, 1))]),
    ],
)
def test_groups(source: Shape, target: Shape, groups: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    assert aligned_groups(source, target) == groups


@given(st.lists(st.sampled_from([1, 2, 3, 4, 6]), max_size=5), st.data())
def test_groups_have_equal_products(source: list[int], data: st.DataObject) -> None:
    target = data.draw(st.permutations(source))
    for own, others in aligned_groups(source, target):
        assert math.prod(source[a] for a in own) == math.prod(target[a] for a in others)


@pytest.mark.parametrize(
    ("source", "wanted", "target"),
    [
        (("n", 196, 3), ("n", 588), (0, 588)),
        (("n", 196), ("m", 7), (-1, 7)),
        (("n", 6), (6, "n"), (6, -1)),
        (("n", "m"), ("m", "n"), None),
        ((0, 2), (2, 0), None),
        ((None, 6), (None, 6), (-1, 6)),
    ],
)
def test_constant_target(source: Shape, wanted: Shape, target: tuple[int, ...] | None) -> None:
    assert constant_target(source, wanted) == target
