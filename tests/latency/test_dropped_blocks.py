"""Prices of networks without a residual branch, against the networks that are built then."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.costmodel.prediction import model_latency_us
from edgeprune.dependency import analyse, droppable
from edgeprune.devices import load_profile
from edgeprune.latency import gpu_network
from edgeprune.passes.canonicalize import canonicalize
from edgeprune.passes.prune import merge_branches, prune_channels
from edgeprune.testing.oracle import parse
from tests.passes.prune.transformers import ATTENTION, MLP, transformer

PROFILE = load_profile("orin")
CONVOLUTIONS = """
net (float[1,64,28,28] x) => (float[1,64,28,28] y) {
  s = Conv(x, w0)
  h = Conv<pads=[1,1,1,1]>(s, w1) r = Relu(h) k = Conv(r, w2) a = Add(k, s) t = Relu(a)
  y = Conv(t, w3)
}
"""


def transformer_of_one_sample() -> ir.Model:
    model = transformer(MLP, ATTENTION, MLP)
    model.graph.inputs[0].shape = ir.Shape((1, 5, 6))
    return canonicalize(model, verify=False)


def convolutions() -> ir.Model:
    return parse(CONVOLUTIONS, w0=(64, 64, 1, 1), w1=(96, 64, 3, 3), w2=(64, 96, 1, 1), w3=(64, 64, 1, 1))


def sum_behind_activation() -> ir.Model:
    text = CONVOLUTIONS.replace("a = Add(k, s) t = Relu(a)", "g = Sigmoid(k) q = Mul(k, g) t = Add(q, s)")
    return parse(text, w0=(64, 64, 1, 1), w1=(96, 64, 3, 3), w2=(64, 96, 1, 1), w3=(64, 64, 1, 1))


@pytest.mark.parametrize("make", [transformer_of_one_sample, convolutions, sum_behind_activation])
@pytest.mark.parametrize("together", [False, True])
def test_the_price_is_that_of_the_network_that_is_built(make: object, *, together: bool) -> None:
    assert callable(make)
    model = make()
    analysis = analyse(model)
    branches = droppable(model, analysis.groups)
    gpu = gpu_network(model, analysis, PROFILE.device(), ("fp16",), step=8, error=0.1, branches=branches)
    formats = ["fp16"] * len(gpu.network.blocks)
    ids = [g.id for g in analysis.groups]
    for dropped in [list(branches)] if together else [[b] for b in branches]:
        widths = gpu.latency.sizes.copy()
        widths[[ids.index(b) for b in dropped]] = 0
        assert all(gpu.levels[ids.index(b)][0] == 0 for b in dropped)
        built = prune_channels(model, analysis, {b: np.array([], np.int64) for b in dropped})
        merge_branches(built)
        expected = model_latency_us(canonicalize(built, verify=False), PROFILE, "fp16")
        assert gpu.latency.total_us(widths, formats) == pytest.approx(expected.latency_ms * 1e3, rel=1e-3)
        assert gpu.latency.total_us(widths, formats) < gpu.latency.total_us(gpu.latency.sizes, formats)
