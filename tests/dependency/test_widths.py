"""Axis lengths from group widths against the lengths that really come out of pruning."""

import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.dependency.widths import axis_lengths
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.testing.oracle import parse

CONCAT = """
g (float[1, 8, 4, 4] x) => (float[1, 6, 4, 4] y) {
  a = Conv(x, w1, b1)
  b = Conv(x, w2, b2)
  c = Concat<axis=1>(a, b)
  r = Relu(c)
  y = Conv(r, w3, b3)
}
"""
HEADS = """
g (float[1, 5, 16] x) => (float[1, 5, 16] y) {
  q = MatMul(x, wq)
  s = Constant<value_ints=[1, 5, 4, 8]>()
  h = Reshape(q, s)
  t = Transpose<perm=[0, 2, 1, 3]>(h)
  z = Relu(t)
  u = Transpose<perm=[0, 2, 1, 3]>(z)
  f = Constant<value_ints=[1, 5, 32]>()
  v = Reshape(u, f)
  y = MatMul(v, wo)
}
"""


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        (CONCAT, {"w1": (16, 8, 1, 1), "b1": (16,), "w2": (12, 8, 1, 1), "b2": (12,), "w3": (6, 28, 1, 1), "b3": (6,)}),
        (HEADS, {"wq": (16, 32), "wo": (32, 16)}),
    ],
)
def test_lengths_are_those_of_the_pruned_model(text: str, weights: dict[str, tuple[int, ...]]) -> None:
    model = parse(text, **weights)
    analysis = analyse(model)
    lengths = axis_lengths(analysis.groups)
    assert len(analysis.groups) >= 2
    rng = np.random.default_rng(0)
    for _ in range(5):
        widths = np.array([rng.integers(1, g.size + 1) for g in analysis.groups])
        cut = {
            g.id: np.sort(rng.choice(g.size, w, replace=False))
            for g, w in zip(analysis.groups, widths, strict=True)
            if w < g.size
        }
        pruned = prune_channels(model, analysis, cut)
        values = {v.name: v for n in pruned.graph for v in (*n.inputs, *n.outputs) if v is not None}
        checked = 0
        for value, axis in lengths.segments:
            if value in values and values[value].shape is not None:
                real = values[value].shape[axis]
                assert lengths.dim(value, axis, 0).at(widths, lengths.sizes) == pytest.approx(real, abs=1e-9)
                checked += 1
        assert checked >= 5


def test_an_axis_that_no_group_cuts_is_fixed() -> None:
    lengths = axis_lengths(())
    assert lengths.dim("x", 0, 7).at(np.zeros(0, np.int64), lengths.sizes) == 7
