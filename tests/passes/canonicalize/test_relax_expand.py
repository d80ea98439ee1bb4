from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.passes.models import constant, node, parse, random, run


def test_a_class_token_names_only_the_batch() -> None:
    text = """g (float[batch,4,6] x) => (float[batch,5,6] y) {
        s = Shape(x)
        n = Slice(s, zero, one, zero)
        t = Concat<axis=0>(n, one, six)
        e = Expand(token, t)
        y = Concat<axis=1>(e, x)
    }"""
    model = parse(
        text,
        token=random(1, 1, 6),
        zero=np.array([0]),
        one=np.array([1]),
        six=np.array([6]),
    )
    canonical = canonicalize(model, verify=True)
    target = node(canonical, "Expand").inputs[1]
    assert target is not None
    joined = target.producer()
    assert joined is not None
    assert [constant(value) for value in joined.inputs[1:]] == [[1], [1]]
    x = random(3, 4, 6)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(model, x=x)[0])


@pytest.mark.parametrize(("target", "relaxed"), [([3, 4, 6], [3, 1, 1]), ([2, 3, 4, 6], [2, 3, 1, 1])])
def test_constant_targets(target: list[int], relaxed: list[int]) -> None:
    text = f"g (float[1,4,6] x) => (float[{','.join('abcd'[: len(target)])}] y) {{ e = Expand(x, t)\n y = Relu(e) }}"
    model = parse(text, t=np.array(target, np.int64))
    canonical = canonicalize(model, verify=True)
    assert constant(node(canonical, "Expand").inputs[1]) == relaxed
