from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import constant, node, ops, parse, random, run


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("body", "constants", "remaining"),
    [
        ("a = Reshape(x, s)\n b = Unsqueeze(a, z)\n y = Relu(b)", {"s": ints(0, 12), "z": ints(0)}, {"Reshape": 1}),
        ("a = Flatten<axis=2>(x)\n b = Reshape(a, s)\n y = Relu(b)", {"s": ints(-1, 3, 2, 2)}, {"Reshape": 1}),
        ("a = Transpose<perm=[2,0,1]>(x)\n b = Transpose<perm=[1,2,0]>(a)\n y = Relu(b)", {}, {}),
        ("a = Transpose<perm=[1,0,2]>(x)\n b = Transpose<perm=[2,1,0]>(a)\n y = Relu(b)", {}, {"Transpose": 1}),
        ("a = Unsqueeze(x, z)\n b = Squeeze(a, z)\n y = Relu(b)", {"z": ints(1)}, {}),
        # Two splits of one axis that do not nest stay two: merged, they would be a reshape of many axes to many.
        ("a = Reshape(x, s)\n b = Reshape(a, t)\n y = Relu(b)", {"s": ints(24), "t": ints(4, 6)}, {"Reshape": 2}),
    ],
)
def test_runs_of_views(body: str, constants: dict[str, np.ndarray], remaining: dict[str, int]) -> None:
    rank = 4
    text = f"g (float[2,3,4] x) => (float[{','.join('abcd'[:rank])}] out) {{ {body}\n out = Relu(y) }}"
    model = parse(text, **constants)
    canonical = canonicalize(model, verify=False)
    assert ops(canonical) == {"Relu": 2, **remaining}
    x = random(2, 3, 4)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(model, x=x)[0])


def test_a_squeeze_moves_before_the_transpose() -> None:
    text = """g (float[1,5,6] x) => (float[b,c,d] out) {
        a = Reshape(x, s)
        t = Transpose<perm=[2,0,3,1]>(a)
        q = Squeeze(t, z)
        out = Relu(q) }"""
    canonical = canonicalize(parse(text, s=ints(1, 5, 2, 3), z=ints(1)), verify=True)
    assert ops(canonical) == {"Reshape": 1, "Transpose": 1, "Relu": 1}
    assert constant(node(canonical, "Reshape").inputs[1]) == [5, 2, 3]
