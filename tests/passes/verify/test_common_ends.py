"""The last nodes that two models have in common."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.graph import check, with_outputs
from edgeprune.passes.verify.common_ends import common_ends
from tests.passes.models import parse

TEXT = """g (float[2,3] x, float[3,4] w) => (float[4,2] y, float[2,4] z) {
    a = MatMul(x, w)
    b = Add(a, t)
    s = Sigmoid(b)
    y = Transpose<perm=[1,0]>(s)
    z = Mul(b, s)
}"""


def test_the_sums_before_the_end_are_a_pair() -> None:
    first, second = (
        parse(TEXT, t=np.float32(1)),
        parse(TEXT.replace("a =", "h =").replace("(a,", "(h,"), t=np.float32(1)),
    )
    assert common_ends(first, second) == [("a", "h")]
    assert [value.name for value in with_outputs(second, ["h"]).graph.outputs] == ["h"]
    check(with_outputs(second, ["h", "h"]))
    assert [value.name for value in second.graph.outputs] == ["y", "z"]


@pytest.mark.parametrize(
    ("old", "new", "pairs"),
    [
        ("Sigmoid", "Tanh", {("s", "s"), ("a", "a")}),
        ("Transpose<perm=[1,0]>", "Transpose", {("y", "y"), ("a", "a")}),
        ("Add(a, t)", "Sub(a, t)", {("b", "b")}),
        ("Add(a, t)", "Add(t, a)", {("b", "b")}),
    ],
)
def test_nodes_that_differ_are_compared(old: str, new: str, pairs: set[tuple[str, str]]) -> None:
    found = common_ends(parse(TEXT, t=np.float32(1)), parse(TEXT.replace(old, new), t=np.float32(1)))
    assert set(found) == pairs


def test_other_constants_are_compared() -> None:
    assert common_ends(parse(TEXT, t=np.float32(1)), parse(TEXT, t=np.float32(2))) == [("b", "b")]
