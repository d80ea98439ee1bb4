"""What is said on the ground of a price: published gains of 2:4, and the overhead of kernels."""

from __future__ import annotations

import numpy as np

from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.kernel_network import gpu_network
from edgeprune.latency.price_grounds import overhead_advice, sparse_ground
from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.models import single

ORIN = load_profile("orin")


def test_2_to_4_says_that_its_gain_was_published_and_for_what() -> None:
    (said,) = sparse_ground(("fp16", "fp16+2:4", "fp16+2:4"), ORIN, None)
    assert said.startswith(
        "2:4 in 2 kernels is priced from published gains (FP16 1.2 times as fast from 256 channels on)"
    )
    assert "not from a measurement" in said
    assert "--sparsity none" in said
    assert sparse_ground(("fp16", "int8"), ORIN, None) == []


def test_2_to_4_on_a_device_without_published_gains_is_priced_at_none() -> None:
    (said,) = sparse_ground(("fp16+2:4",), load_profile("a100"), None)
    assert "priced at no gain" in said


def test_a_small_network_is_told_about_its_overhead_at_its_own_widths() -> None:
    model = canonicalize(
        single(
            "g (float[1,16,8,8] x) => (float[1,16,8,8] y) { a = Conv(x, w) b = Relu(a) y = Conv(b, v) }",
            w=(16, 16, 1, 1),
            v=(16, 16, 1, 1),
        )
    )
    gpu = gpu_network(model, analyse(model), ORIN.device(), ("fp16",), step=8, error=0.05)
    formats = ("fp16",) * len(gpu.network.blocks)
    (said,) = overhead_advice(gpu.latency, np.array(gpu.latency.sizes), formats, ORIN, None)
    assert "is the overhead of 2 kernels" in said
