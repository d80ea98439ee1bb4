"""Kernels that FP16 does not fit are priced in FP32, unless they compute integers."""

import numpy as np
import pytest

from edgeprune.compiler.kernel_times import KernelTimes
from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.kernel_network import gpu_network
from edgeprune.latency.measured_model import scaled
from edgeprune.testing.oracle import parse

TEXT = """
g (float[1, 32, 56, 56] x) => (float[1, 64, 56, 56] y, int64[1, 1, 56, 56] i) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1)
  y = Conv<pads=[1, 1, 1, 1]>(a, w2)
  i = ArgMax<axis=1>(a)
}
"""


@pytest.mark.parametrize("measured", [False, True], ids=["analytic", "scaled"])
def test_kernels_led_by_named_float_nodes_become_slower(measured: bool) -> None:
    model = parse(TEXT, w1=(64, 32, 3, 3), w2=(64, 64, 3, 3))
    gpu = gpu_network(model, analyse(model), load_profile("orin").device(), ("fp16", "int8"), step=32, error=0.0)
    latency = scaled(gpu.latency, {"conv fp16": 1.5}) if measured else gpu.latency
    times = KernelTimes(gpu, gpu, latency, gpu.latency, False, "analytic", 100.0, ())
    anchors = [block.anchor for block in gpu.network.blocks]
    second = next(str(n.name) for n in model.graph if n.outputs[0].name == "y")
    integer = next(str(n.name) for n in model.graph if n.op_type == "ArgMax")
    found = times.in_float32({second, integer, "another"})
    for one, before in (
        (found.latency, latency),
        (found.dense_latency, gpu.latency),
        (found.kernels.latency, gpu.latency),
    ):
        ratios = [
            one.block_us(b, "fp16", gpu.latency.sizes) / before.block_us(b, "fp16", gpu.latency.sizes)
            for b in range(len(anchors))
        ]
        assert ratios[anchors.index(second)] > 1.2
        np.testing.assert_allclose([r for a, r in zip(anchors, ratios, strict=True) if a != second], 1)
    same = times.in_float32(()).latency
    assert same.total_us(latency.sizes, ["fp16"] * len(anchors)) == latency.total_us(
        latency.sizes, ["fp16"] * len(anchors)
    )
