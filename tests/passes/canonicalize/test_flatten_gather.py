from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.testing.oracle import verify
from tests.models import single
from tests.passes.models import constant, node, parse, random, run

TABLE = np.array([[0, 2, 1], [3, 3, -1]], np.int64)


@pytest.mark.parametrize(("axis", "shape"), [(1, "2,2,3,4"), (2, "2,5,2,3")])
def test_a_table_of_indices_becomes_a_list(axis: int, shape: str) -> None:
    model = parse(f"g (float[2,5,4] x) => (float[{shape}] y) {{ z = Gather<axis={axis}>(x, i) y = Relu(z) }}", i=TABLE)
    canonical = canonicalize(model, verify=True)
    assert constant(node(canonical, "Gather").inputs[1]) == TABLE.reshape(-1).tolist()
    x = random(2, 5, 4)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(model, x=x)[0])


def test_dynamic_lengths() -> None:
    model = parse("g (float[n,5,m] x) => (float[n,2,3,m] y) { z = Gather<axis=1>(x, i) y = Relu(z) }", i=TABLE)
    x = random(3, 5, 4)
    np.testing.assert_array_equal(run(canonicalize(model, verify=True), x=x)[0], run(model, x=x)[0])


def test_channels_beside_it_and_under_it_are_cut() -> None:
    model = single(
        """g (float[1,7,8] x) => (float[1,4,6] y)
        <int64[2,2] i = {0, 3, 5, 1}, int64[2,3] j = {0, 1, 2, 3, 4, 5}, int64[3] t = {1, 4, 6}> {
            h = MatMul(x, w1)
            windows = Gather<axis=1>(h, i)
            s = Relu(windows)
            halves = Gather<axis=3>(s, j)
            scaled = Mul(halves, k)
            z = Einsum<equation="nabij,ijo->nabo">(scaled, w2)
            y = Reshape(z, t)
        }""",
        w1=(8, 6),
        k=(2, 3),
        w2=(2, 3, 6),
    )
    assert sorted(g.size for g in verify(model).groups) == [2, 3]
