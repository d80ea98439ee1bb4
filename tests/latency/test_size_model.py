"""Sizes at any widths are those of the network that is cut to them."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency import analyse
from edgeprune.graph import count_macs, count_parameters, infer_shapes
from edgeprune.latency import FLOAT, size_model
from edgeprune.latency.block_network import lowest_units
from edgeprune.passes.prune import prune_channels
from tests.small_models import build, normal

CONVOLUTIONS = """net (float[1, 3, 16, 16] x) => (float[1, 5, 16, 16] y) {
  a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w0, b0)
  r = Relu (a)
  d = Conv <pads = [1, 1, 1, 1], group = 16> (r, w1)
  e = Conv (d, w2)
  s = Concat <axis = 1> (e, r)
  u = ConvTranspose <strides = [2, 2]> (s, w3, b3)
  y = Conv (u, w4)
}"""
MATRICES = """net (float[2, 6, 12] x) => (float[12, 4] y) {
  h = MatMul (x, w0)
  i = Add (h, b0)
  g = Relu (i)
  k = MatMul (x, w1)
  v = MatMul (x, w2)
  kt = Transpose <perm = [0, 2, 1]> (k)
  p = MatMul (v, kt)
  q = Softmax <axis = -1> (p)
  o = MatMul (q, g)
  f = Reshape (o, shape)
  y = Gemm <transB = 1> (f, w3)
}"""
NETWORKS = {
    "convolutions": build(
        CONVOLUTIONS,
        w0=normal(16, 3, 3, 3),
        b0=normal(16),
        w1=normal(16, 1, 3, 3),
        w2=normal(24, 16, 1, 1),
        w3=normal(40, 8, 2, 2),
        b3=normal(8),
        w4=normal(5, 8, 1, 1),
    ),
    "matrices": build(
        MATRICES,
        w0=normal(12, 20),
        b0=normal(20),
        w1=normal(12, 8),
        w2=normal(12, 8),
        w3=normal(4, 20),
        integers={"shape": [12, -1]},
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_shares_are_those_of_the_network_that_is_cut(name: str) -> None:
    dense = NETWORKS[name]
    analysis = analyse(dense)
    found = size_model(dense, analysis)
    assert len(analysis.groups) >= 2
    assert found.shares(found.sizes) == (1.0, 1.0)
    random = np.random.default_rng(0)
    for _ in range(5):
        widths = np.array([random.integers(1, g.size + 1) for g in analysis.groups])
        cut = infer_shapes(prune_channels(dense, analysis, lowest_units(analysis.groups, widths)))
        expected = (
            sum(count_macs(cut).values()) / sum(count_macs(dense).values()),
            count_parameters(cut) / count_parameters(dense),
        )
        np.testing.assert_allclose(found.shares(widths), expected, rtol=1e-9)


def test_the_dense_network_costs_a_million_and_every_share_counts_as_weighted() -> None:
    dense = NETWORKS["convolutions"]
    found = size_model(dense, analyse(dense))
    formats = [FLOAT] * len(found.blocks)
    assert found.total_us(found.sizes, formats) == pytest.approx(1e6)
    half = found.sizes // 2
    macs, parameters = found.shares(half)
    assert found.total_us(half, formats) == pytest.approx(1e6 * (macs + parameters) / 2)
    assert found.corrected(2.0).total_us(half, formats) == pytest.approx(1e6 * (macs + parameters))
