"""Kernels that FP16 does not fit are priced in FP32, unless they compute integers."""

from dataclasses import replace

import numpy as np
import pytest

from edgeprune.build.device_options import Options
from edgeprune.compiler import kernel_times
from edgeprune.compiler.kernel_times import SPARSE_PAYS, KernelTimes
from edgeprune.compiler.kernel_times import _sparse_nodes as sparse_nodes
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


def test_sparsity_auto_offers_2_to_4_where_published_gains_pay() -> None:
    """On Orin without a measurement: convolutions of 256 channels or more, and nothing on a device without figures."""
    text = """
    g (float[1, 64, 28, 28] x) => (float[1, 256, 28, 28] y) {
      a = Conv<pads=[1, 1, 1, 1]>(x, w1)
      b = Conv<pads=[1, 1, 1, 1]>(a, w2)
      y = Conv<pads=[1, 1, 1, 1]>(b, w3)
    }
    """
    model = parse(text, w1=(64, 64, 3, 3), w2=(256, 64, 3, 3), w3=(256, 256, 3, 3))
    wide = next(str(n.name) for n in model.graph if n.outputs[0].name == "y")
    assert sparse_nodes(model, load_profile("orin"), Options(), None) == {wide}
    assert sparse_nodes(model, load_profile("a100"), Options(), None) == frozenset()
    assert sparse_nodes(model, load_profile("orin"), Options(sparsity="none"), None) == frozenset()
    assert len(sparse_nodes(model, load_profile("orin"), Options(sparsity="2:4"), None)) == 3
    device = load_profile("orin").device()
    gpu = gpu_network(model, analyse(model), device, ("fp16", "int8"), step=32, error=0.0, sparse=[wide])
    block = next(b for b, one in enumerate(gpu.network.blocks) if one.anchor == wide)
    us = {fmt: gpu.latency.block_us(block, fmt, gpu.latency.sizes) for fmt in gpu.latency.formats(block)}
    assert us["fp16"] >= SPARSE_PAYS * us["fp16+2:4"]
    assert us["int8"] == us["int8+2:4"]


@pytest.mark.parametrize(("precisions", "wanted"), [(("fp16",), True), (("fp16", "int8"), False)])
def test_losses_of_2_to_4_are_measured_only_if_it_makes_the_whole_network_faster(
    precisions: tuple[str, ...], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Orin INT8 is faster than 2:4 in FP16, and 2:4 adds nothing to it in a layer of this size."""
    model = parse(
        "g (float[1, 256, 28, 28] x) => (float[1, 256, 28, 28] y) { y = Conv<pads=[1, 1, 1, 1]>(x, w) }",
        w=(256, 256, 3, 3),
    )
    wide = next(str(n.name) for n in model.graph)
    device = load_profile("orin").device()
    gpu = gpu_network(model, analyse(model), device, precisions, step=32, error=0.0, sparse=[wide])
    asked: list[list[int]] = []

    def losses(network: object, builder: object, data: object, blocks: list[int]) -> dict[int, float]:
        asked.append(list(blocks))
        return dict.fromkeys(blocks, 0.5)

    monkeypatch.setattr(kernel_times, "sparse_losses", losses)
    dense = tuple(dict.fromkeys(precisions, 0.0) for _ in gpu.network.blocks)
    found = kernel_times.with_sparse(dense, gpu, None, None, gpu.latency)  # type: ignore[arg-type]
    assert bool(asked) == wanted
    assert any("fp16+2:4" in of for of in found) == wanted
    plain = gpu_network(model, analyse(model), device, precisions, step=32, error=0.0)
    times = KernelTimes(gpu, plain, gpu.latency, plain.latency, True, "analytic", 1.0, ())
    assert times.priced_sparse == wanted
    assert replace(times, sparse=False).priced_sparse == 0
