"""Where two layers are faster than one."""

from __future__ import annotations

from functools import partial

import onnx_ir as ir
import pytest

from edgeprune.dependency import analyse
from edgeprune.devices import load_profile
from edgeprune.latency import GpuNetwork, KernelPairs, gpu_network, rank_of, whole_format
from edgeprune.ranks.candidates import PAYS, Ranked, ranked
from tests.passes.models import parse, random
from tests.ranks.networks import mlp


def on(model: ir.Model, target: str = "orin-nano-8") -> tuple[GpuNetwork, Ranked | None]:
    gpu = gpu_network(model, analyse(model), load_profile(target).device(), ("fp16", "int8"), step=32, error=0.1)
    return gpu, ranked(gpu.latency, gpu.network, model, partial(KernelPairs, gpu.latency), 32)


def test_only_ranks_that_save_a_tenth_are_candidates() -> None:
    gpu, found = on(mlp(512, 2048))
    assert found is not None
    assert found.layers == {0: "m", 1: "k"}
    sizes, saved = gpu.latency.sizes, []
    for block, formats in found.latency.ranked.items():
        for fmt in formats:
            assert rank_of(fmt) % 32 == 0
            whole_us = gpu.latency.block_us(block, whole_format(fmt), sizes)
            saved.append(found.latency.block_us(block, fmt, sizes) / whole_us)
    assert saved
    assert max(saved) <= PAYS


def test_a_small_layer_is_faster_alone() -> None:
    """Two kernels have two launches."""
    assert on(mlp(64, 128))[1] is None


@pytest.mark.parametrize(
    "text",
    [
        "net (float[1,256,28,28] x) => (float[1,256,28,28] y) "
        "{ a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w3)\n y = Relu(a) }",
        "net (float[1,256,28,28] x) => (float[1,256,28,28] y) { a = Conv<group=2>(x, wg)\n y = Relu(a) }",
    ],
)
def test_windows_and_groups_are_left_as_they_are(text: str) -> None:
    model = parse(text, w3=random(256, 256, 3, 3), wg=random(256, 128, 1, 1))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    assert on(model)[1] is None


def test_a_layer_that_is_called_twice_is_left_as_it_is() -> None:
    text = """
    net (float[1,256,1024] x, float[1,256,1024] z) => (float[1,256,1024] y) {
        a = MatMul(x, w)
        c = MatMul(z, w)
        p = Relu(a)
        q = Relu(c)
        y = Add(p, q)
    }"""
    model = parse(text, w=random(1024, 1024))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    assert on(model)[1] is None


def test_two_linear_layers_in_a_row_are_priced_as_two_kernels() -> None:
    text = "net (float[1,256,512] x) => (float[1,256,512] y) { a = MatMul(x, w)\n c = MatMul(a, v)\n y = Relu(c) }"
    model = parse(text, w=random(512, 512), v=random(512, 512, seed=1))
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    gpu, found = on(model)
    assert found is not None
    fmt = next(f for f in found.latency.ranked[1] if f.startswith("fp16"))
    alone = KernelPairs(gpu.latency).ratio(1, "fp16", rank_of(fmt), gpu.latency.sizes)
    us = gpu.latency.block_us(1, "fp16", gpu.latency.sizes)
    assert found.latency.block_us(1, fmt, gpu.latency.sizes) < alone * us
