"""Formats of low rank, and what they take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.costmodel import latencies_us
from edgeprune.dependency import analyse
from edgeprune.devices import load_profile
from edgeprune.latency.analytic_model import dense_format, is_int8
from edgeprune.latency.block_latency import LatencyModel
from edgeprune.latency.block_network import network
from edgeprune.latency.features import FEATURES
from edgeprune.latency.kernel_network import gpu_network
from edgeprune.latency.rank_formats import RankedLatency, rank_of, whole_format, with_rank
from edgeprune.latency.rank_prices import ContractionPairs, KernelPairs, split_kernel
from edgeprune.latency.ranked_layers import factored_for_timing, int8_nodes_in, ranks_in
from tests.passes.models import parse, random

NET = """
net (float[1,256,512] x) => (float[1,256,512] y) {
    m = MatMul(x, w1)
    s = Add(m, b1)
    h = Relu(s)
    k = MatMul(h, w2)
    y = Add(k, b2)
}"""


@pytest.fixture
def model() -> ir.Model:
    found = parse(NET, w1=random(512, 2048), b1=random(2048), w2=random(2048, 512), b2=random(512))
    for node in found.graph:
        node.name = str(node.outputs[0].name)
    return found


@pytest.mark.parametrize(
    ("fmt", "rank", "whole", "dense"),
    [
        ("int8+r64", 64, "int8", "int8"),
        ("fp16+r8", 8, "fp16", "fp16"),
        ("fp16", 0, "fp16", "fp16"),
        ("int8+2:4", 0, "int8+2:4", "int8"),
        ("int8-core", 0, "int8-core", "int8-core"),
    ],
)
def test_a_format_says_its_rank(fmt: str, rank: int, whole: str, dense: str) -> None:
    assert (rank_of(fmt), whole_format(fmt), dense_format(fmt)) == (rank, whole, dense)
    assert is_int8(fmt) == fmt.startswith("int8") * ("core" not in fmt)
    assert not rank or with_rank(whole, rank) == fmt


def test_two_kernels_take_what_the_network_with_two_layers_takes(model: ir.Model) -> None:
    """The price of a format against that of the graph that it asks for."""
    device = load_profile("orin").device()
    formats = ("fp16", "int8")
    gpu = gpu_network(model, analyse(model), device, formats, step=32, error=0.1)
    latency, sizes = gpu.latency, gpu.latency.sizes
    ranked = RankedLatency(latency, KernelPairs(latency), {0: ("fp16+r64",), 1: ("fp16+r64",)})
    assert ranked.formats(0) == ("fp16", "int8", "fp16+r64")
    split = factored_for_timing(model, gpu.network.blocks, ["fp16+r64", "fp16"])
    other = gpu_network(split, analyse(split), device, formats, step=32, error=0.1).latency
    wanted = other.total_us(other.sizes, ["fp16"] * 3)
    assert ranked.total_us(sizes, ["fp16+r64", "fp16"]) == pytest.approx(wanted, rel=1e-6)
    assert ranked.corrected(2.0).block_us(0, "fp16+r64", sizes) == pytest.approx(
        2 * ranked.block_us(0, "fp16+r64", sizes)
    )


def test_a_rank_that_a_cut_layer_has_costs_nothing_more(model: ir.Model) -> None:
    device = load_profile("orin").device()
    gpu = gpu_network(model, analyse(model), device, ("fp16",), step=32, error=0.1)
    pairs = KernelPairs(gpu.latency)
    narrow = np.array([64])
    assert pairs.ratio(0, "fp16", 64, narrow) == 1.0
    assert pairs.ratio(0, "fp16", 64, gpu.latency.sizes) < 0.8
    split = factored_for_timing(model, gpu.network.blocks, ["fp16+r512", "fp16+r2048"])
    assert split is model


def test_a_layer_before_that_takes_the_first_factor_makes_two_layers_cost_one_kernel(model: ir.Model) -> None:
    device = load_profile("orin").device()
    gpu = gpu_network(model, analyse(model), device, ("fp16",), step=32, error=0.1)
    latency, sizes = gpu.latency, gpu.latency.sizes
    old, before = latency.kernel(1, sizes), latency.kernel(0, sizes)
    _, second = split_kernel(old, 64)
    us = latencies_us([old, second, before, replace(before, cout=64)], ["fp16"] * 4, device, "dense", mixed=False)
    ratio = KernelPairs(latency, {1: 0}).ratio(1, "fp16", 64, sizes)
    assert ratio == pytest.approx(max((us[1] - us[2] + us[3]) / us[0], 0.02))


def test_two_contractions_are_priced_by_the_coefficients_of_the_block(model: ir.Model) -> None:
    net = network(model, analyse(model))
    theta = np.zeros((len(net.blocks), len(FEATURES)))
    theta[:, 0], theta[:, 2] = 5.0, 1e-6  # a dispatch, and multiply-accumulates
    latency = LatencyModel(net.geometries, net.edges, net.sizes, 16, {"fp32": theta}, (0.0, 0.0))
    pairs = ContractionPairs(latency)
    whole = latency.block_us(0, "fp32", net.sizes)
    two = 2 * 5.0 + 1e-6 * 256 * 64 * (512 + 2048)
    assert pairs.ratio(0, "fp32", 64, net.sizes) == pytest.approx(two / whole)
    assert pairs.ratio(0, "fp32", 512, net.sizes) == 1.0
    # The layer before makes 64 outputs, not 2048, and this one reads 64.
    saved = 1e-6 * 256 * 512 * (2048 - 64)
    second = 5.0 + 1e-6 * 256 * 64 * 512
    folded = ContractionPairs(latency, {1: 0}).ratio(1, "fp32", 64, net.sizes)
    assert folded == pytest.approx(max((second - saved) / latency.block_us(1, "fp32", net.sizes), 0.02))


def test_both_layers_are_in_int8(model: ir.Model) -> None:
    net = network(model, analyse(model))
    formats = ["int8+r64" if "int8" in forms else "fp32" for forms in net.int8_nodes]
    assert ranks_in(model, net.blocks, formats) == {"m": 64, "k": 64}
    split = factored_for_timing(model, net.blocks, formats)
    found = int8_nodes_in(split, net.int8_nodes, formats)
    assert {"m", "m/rank", "k", "k/rank"} <= found
