"""The latencies of pruned kernels are those that are predicted for the pruned network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.costmodel.prediction import model_latency_us
from edgeprune.dependency.groups import Group, Member
from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.block_network import lowest_units
from edgeprune.latency.kernel_network import GpuNetwork, gpu_network, levels_of
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.search.solver import Problem, search

NETWORK = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[1, 64, 56, 56] x) => (float[1, 64, 28, 28] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, wa)
  ar = Relu(a)
  d = Conv<pads=[1, 1, 1, 1], group=96>(ar, wd)
  dr = Relu(d)
  b = Conv(dr, wb)
  c = Conv<pads=[1, 1, 1, 1]>(ar, wc)
  j = Concat<axis=1>(b, c)
  p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(j)
  y = Conv(p, wy)
}
"""
WEIGHTS = {"wa": (96, 64, 3, 3), "wd": (96, 1, 3, 3), "wb": (64, 96, 1, 1), "wc": (32, 96, 3, 3), "wy": (64, 96, 1, 1)}
PROFILE = load_profile("orin")


@cache
def model() -> ir.Model:
    proto = onnx.parser.parse_model(NETWORK.strip())
    rng = np.random.default_rng(0)
    for name, shape in WEIGHTS.items():
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return canonicalize(ir.from_proto(proto), verify=False)


@cache
def network() -> GpuNetwork:
    return gpu_network(model(), analyse(model()), PROFILE.device(), ("fp16", "int8"), step=8, error=0.1)


def float_formats() -> list[str]:
    return [network().latency.formats(b)[0] for b in range(len(network().latency.clusters))]


@pytest.mark.parametrize("seed", range(5))
def test_the_latency_at_any_widths_is_that_of_the_pruned_network(seed: int) -> None:
    rng = np.random.default_rng(seed)
    latency, analysis = network().latency, network().network.analysis
    widths = np.array([rng.choice(levels) for levels in network().levels])
    pruned = prune_channels(model(), analysis, lowest_units(analysis.groups, widths))
    predicted_us = model_latency_us(pruned, PROFILE, "fp16").latency_ms * 1e3
    assert latency.total_us(widths, float_formats()) == pytest.approx(predicted_us, rel=1e-9)


def test_a_tensor_read_in_two_precisions_is_converted_once() -> None:
    latency = network().latency
    formats = float_formats()
    reader = next(b for b, clusters in enumerate(latency.clusters) if clusters[0].anchor.outputs[0].name == "c")
    formats[reader] = "int8"
    anchors = {clusters[0].anchor.name: f for clusters, f in zip(latency.clusters, formats, strict=True)}
    predicted = model_latency_us(model(), PROFILE, "fp16", precisions={str(k): v for k, v in anchors.items()})  # type: ignore[misc]
    assert len(latency.edges) == 1
    assert latency.total_us(latency.sizes, formats) == pytest.approx(predicted.latency_ms * 1e3, rel=1e-9)


def test_what_fp16_cannot_hold_is_priced_in_fp32() -> None:
    latency = network().latency
    block = next(b for b, clusters in enumerate(latency.clusters) if clusters[0].anchor.outputs[0].name == "c")
    latency.total_us(latency.sizes, float_formats())  # known prices are not those of the other model
    wide = latency.in_float32([block])
    anchor = str(latency.clusters[block][0].anchor.name)
    predicted = model_latency_us(model(), PROFILE, "fp16", precisions={anchor: "fp32"})
    assert wide.total_us(latency.sizes, float_formats()) == pytest.approx(predicted.latency_ms * 1e3, rel=1e-9)
    assert wide.block_us(block, "fp16", latency.sizes) > latency.block_us(block, "fp16", latency.sizes)
    assert wide.block_us(block, "int8", latency.sizes) == latency.block_us(block, "int8", latency.sizes)
    without = replace(latency, device=replace(latency.device, matrix_fma={"fp16": 1024.0}))
    assert without.in_float32([block]) is without


def test_the_search_keeps_the_budget_with_the_time_of_the_call() -> None:
    latency, levels = network().latency, network().levels
    problem = Problem(
        latency,
        levels,
        tuple((1 - v / v[-1]) ** 2 for v in levels),
        tuple({f: 0.01 * (f == "int8") for f in latency.formats(b)} for b in range(len(latency.clusters))),
    )
    budget_us = 0.9 * latency.total_us(latency.sizes, float_formats())
    candidate = search(problem, budget_us)
    assert candidate.latency_us <= budget_us
    assert candidate.latency_us == pytest.approx(latency.total_us(candidate.widths, candidate.formats), rel=1e-9)


def test_a_correction_multiplies_everything() -> None:
    latency = network().latency
    doubled = latency.corrected(2.0)
    dense_us = latency.total_us(latency.sizes, float_formats())
    assert doubled.total_us(latency.sizes, float_formats()) == pytest.approx(2 * dense_us, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "positions", "step", "least", "levels"),
    [
        (64, 1, 32, 1, [32, 64]),
        (48, 1, 32, 1, [16, 32, 48]),
        (24, 1, 32, 1, [8, 16, 24]),
        (64, 4, 32, 1, [8, 16, 24, 32, 40, 48, 56, 64]),
        (32, 1, 8, 16, [16, 24, 32]),
        (3, 1, 8, 16, [1, 2, 3]),
    ],
)
def test_levels_are_multiples_of_the_step_in_channels(
    size: int, positions: int, step: int, least: int, levels: list[int]
) -> None:
    unit = np.repeat(np.arange(size, dtype=np.int32), positions)
    group = Group("g", "channel", size, (Member("x", 1, "activation", unit),))
    assert levels_of(group, step, least).tolist() == levels
