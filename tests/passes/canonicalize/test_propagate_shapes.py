from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import constant, node, ops, parse, random, run

VIT = """g (float[batch,5,12] x) => (float[a,b,c,d] y) {
    s = Shape(x)
    n = Gather<axis=0>(s, i0)
    u = Unsqueeze(n, zero)
    t = Concat<axis=0>(u, five, three, four)
    r = Reshape(x, t)
    y = Relu(r)
}"""
VALUES = {
    "i0": np.array(0),
    "i1": np.array(1),
    "zero": np.array([0]),
    "one": np.array([1]),
    "two": np.array([2]),
    "three": np.array([3]),
    "four": np.array([4]),
    "five": np.array([5]),
    "minus": np.array([-1]),
}


def canonical(text: str, **more: Any) -> Any:
    constants = {name: np.asarray(value, np.int64) for name, value in {**VALUES, **more}.items()}
    return canonicalize(parse(text, **{name: value for name, value in constants.items() if name in text}), verify=True)


def test_a_symbolic_batch_becomes_zero() -> None:
    model = canonical(VIT)
    assert ops(model) == {"Reshape": 1, "Relu": 1}
    assert constant(node(model, "Reshape").inputs[1]) == [0, 5, 3, 4]
    for batch in (1, 4):
        assert run(model, x=random(batch, 5, 12))[0].shape == (batch, 5, 3, 4)


def test_static_shapes_become_constants() -> None:
    assert constant(node(canonical(VIT.replace("batch", "2")), "Reshape").inputs[1]) == [2, 5, 3, 4]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("t0 = Mul(u, three)\n t = Concat<axis=0>(t0, five, four)", [-1, 5, 4]),
        ("c = Cast<to=6>(u)\n d = Cast<to=7>(c)\n t = Concat<axis=0>(d, minus)", [0, -1]),
        ("e = Slice(s, zero, two, zero)\n t = Concat<axis=0>(e, three, four)", [0, 5, 3, 4]),
        ("k = Gather<axis=0>(s, i1)\n v = Unsqueeze(k, zero)\n t = Concat<axis=0>(u, v, three, four)", [0, 5, 3, 4]),
        ("t = Concat<axis=0>(zero, five, three, four)", [0, 5, 3, 4]),
    ],
)
def test_targets(target: str, expected: list[int]) -> None:
    head, tail = VIT.split("    t = Concat")
    text = head + f"    {target}\n" + tail.split("\n", 1)[1]
    rank = "abcd"[: len(expected)]
    model = canonical(text.replace("[a,b,c,d]", f"[{','.join(rank)}]"))
    assert constant(node(model, "Reshape").inputs[1]) == expected


def test_two_free_sizes_stay_computed() -> None:
    text = """g (float[batch,tokens,12] x) => (float[a,b,c] y) {
        s = Shape(x)
        n = Slice(s, zero, one, zero)
        m = Slice(s, one, two, zero)
        t = Concat<axis=0>(m, n, minus)
        y = Reshape(x, t)
    }"""
    model = canonical(text)
    assert ops(model)["Shape"] >= 1
    x = random(2, 3, 12)
    np.testing.assert_array_equal(run(model, x=x)[0], x.reshape(3, 2, 12))
