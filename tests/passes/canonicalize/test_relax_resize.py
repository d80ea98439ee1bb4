"""Resizes to lengths computed at run time: their channels are cut all the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.testing.oracle import verify
from tests.passes.models import node, ops, parse, random, run

BY_CONCAT = """
    s = Shape(h)  first = Slice(s, zero, two)  size = Shape(x)  last = Slice(size, two, four)  twice = Mul(last, two)
    sizes = Concat<axis=0>(first, twice)  z = Resize(h, , , sizes)"""
LIKE_ANOTHER = "sizes0 = Shape(h)  sizes = Mul(sizes0, twos)  z = Resize(h, , , sizes)"


def model(body: str, batch: str = "n", side: str = "w"):  # type: ignore[no-untyped-def]
    return parse(
        f"""g (float[{batch},3,{side},{side}] x) => (float[{batch},4,a,b] y) {{
            h = Conv(x, w1)
            {body}
            y = Conv(z, w2)
        }}""",
        w1=random(6, 3, 1, 1),
        w2=random(4, 6, 1, 1),
        zero=np.array([0]),
        two=np.array([2]),
        four=np.array([4]),
        twos=np.array([1, 1, 2, 2]),
    )


@pytest.mark.parametrize("body", [BY_CONCAT, LIKE_ANOTHER], ids=["concat", "product"])
def test_channels_are_cut(body: str) -> None:
    dense = model(body)
    canonical = canonicalize(dense, verify=True)
    assert node(canonical, "Resize").inputs[3].const_value is None  # type: ignore[union-attr]
    assert [g.size for g in verify(canonical).groups] == [6]
    x = random(2, 3, 5, 5)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(dense, x=x)[0])


def test_it_settles() -> None:
    once = canonicalize(model(BY_CONCAT), verify=False)
    assert ops(canonicalize(once, verify=False)) == ops(once)


def test_known_lengths_become_one_constant() -> None:
    canonical = canonicalize(model(BY_CONCAT, "1", "5"), verify=True)
    assert ops(canonical) == {"Conv": 2, "Resize": 1}
    assert [g.size for g in verify(canonical).groups] == [6]
