"""The latency model of this CPU: structure and bookkeeping; never the times themselves."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune import graph
from edgeprune.backends.block_trace import Trace, trace
from edgeprune.dependency.opened_model import fix_shapes
from edgeprune.dependency.solve import analyse
from edgeprune.latency import cpu_model
from edgeprune.latency.block_latency import LatencyModel
from edgeprune.latency.block_network import Network, network
from edgeprune.support.disk_cache import LatencyCache
from edgeprune.testing.oracle import parse

TEXT = """
g (float[n, 8, 12, 12] x) => (float[n, 12, 12, 12] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  s = Sigmoid(a)
  m = Mul(a, s)
  b = Conv<pads=[1, 1, 1, 1]>(m, w2, b2)
  p = Tanh(b)
  y = Conv(p, w3, b3)
}
"""
WEIGHTS = {"w1": (32, 8, 3, 3), "b1": (32,), "w2": (48, 32, 3, 3), "b2": (48,), "w3": (12, 48, 1, 1), "b3": (12,)}


@pytest.fixture
def net() -> Network:
    dense = parse(TEXT, **WEIGHTS)
    return network(fix_shapes(dense, {}), analyse(dense))


FEEDS = {"x": np.random.default_rng(0).standard_normal((1, 8, 12, 12)).astype(np.float32)}


def here(model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
    return trace(model, block_of, FEEDS, 1, seconds)


def test_measured_once_and_then_read_from_the_cache(
    net: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_model, "SECONDS_PER_VARIANT", 0.02)
    cache = LatencyCache("test", tmp_path / "latency.sqlite")
    first = cpu_model.measure(net, FEEDS, cache, tracer=here, lanes=16)
    again = cpu_model.measure(net, FEEDS, cache, tracer=lambda *_: pytest.fail("measured again"), lanes=16)
    cache.close()
    for fmt, theta in first.theta.items():
        np.testing.assert_array_equal(theta, again.theta[fmt])
    assert {first.formats(b) for b in range(len(net.blocks))} == {
        ("fp32", "int8", "int8-core"),  # a convolution whose activation function can be quantized
        ("fp32", "int8"),  # one whose cannot, and one without
    }
    assert first.total_us(net.sizes, ["fp32"] * len(net.blocks)) > 0


def test_a_machine_that_slows_down_slows_no_block_down(net: Network, tmp_path: Path) -> None:
    def profile(name: str, slowness: Callable[[int], float]) -> LatencyModel:
        calls: list[int] = []

        def tracer(model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
            calls.append(1)
            work = sum(graph.count_macs(graph.infer_shapes(graph.clone(model), {"x": (1, 8, 12, 12)})).values())
            us = slowness(len(calls)) * (50 + work / 1e4)
            return Trace({b: us / len(net.blocks) for b in range(len(net.blocks))}, us)

        cache = LatencyCache("made up", tmp_path / name)
        return cpu_model.measure(net, FEEDS, cache, tracer=tracer, lanes=16, pace=lambda: slowness(len(calls)))

    steady = profile("steady", lambda _: 1.0)
    drifting = profile("drifting", lambda calls: 1.0 if calls < 9 else 2.0)
    formats = ["fp32"] * len(net.blocks)
    ratio = drifting.total_us(net.sizes, formats) / steady.total_us(net.sizes, formats)
    halved = [m.total_us(net.sizes // 2, formats) / m.total_us(net.sizes, formats) for m in (steady, drifting)]
    assert halved[0] == pytest.approx(halved[1], rel=0.05)
    assert 0.9 < ratio < 2.1


def test_a_machine_that_is_slower_another_day_slows_no_block_down(net: Network, tmp_path: Path) -> None:
    """Conversions between formats would cost much more than they do if only mixed networks were measured that day."""
    slowness = 1.0

    def tracer(model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        us = slowness * 100.0
        return Trace({b: us / len(net.blocks) for b in range(len(net.blocks))}, us)

    def profile() -> LatencyModel:
        cache = LatencyCache("made up", tmp_path / "cache")
        return cpu_model.measure(net, FEEDS, cache, tracer=tracer, lanes=16, pace=lambda: 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu_model, "MIXED_VARIANTS", 0)
        profile()
    slowness = 2.0
    found = profile()
    assert found.switch_us == pytest.approx((0.0, 0.0), abs=0.5)
    assert found.total_us(net.sizes, ["int8"] * len(net.blocks)) == pytest.approx(100.0, rel=0.05)


def test_where_nothing_is_cut_only_the_dense_widths_are_measured(net: Network, tmp_path: Path) -> None:
    weights: list[int] = []

    def tracer(model: ir.Model, block_of: Mapping[str, int], seconds: float) -> Trace:
        weights.append(graph.weight_bytes(model))
        return Trace({b: 10.0 + b for b in range(len(net.blocks))}, 50.0)

    def profile(cuttable: bool) -> tuple[int, LatencyModel]:
        weights.clear()
        cache = LatencyCache("made up", tmp_path / f"cuttable {cuttable}")
        found = cpu_model.measure(net, FEEDS, cache, tracer=tracer, lanes=16, quantizable=False, cuttable=cuttable)
        return len(set(weights)), found

    sizes, dense = profile(cuttable=False)
    assert sizes == 1
    others, wide = profile(cuttable=True)
    assert others > 1
    formats = ["fp32"] * len(net.blocks)
    assert dense.total_us(net.sizes, formats) == pytest.approx(wide.total_us(net.sizes, formats), rel=0.05)


def test_a_trace_adds_up_to_the_whole(net: Network) -> None:
    block_of = {name: b for b, block in enumerate(net.blocks) for name in block.nodes}
    found = trace(net.model, block_of, FEEDS, 1, 0.1)
    assert set(found.block_us) == set(range(len(net.blocks)))
    assert sum(found.block_us.values()) == pytest.approx(found.total_us, rel=1e-9)
    assert min(found.block_us.values()) > 0


def test_random_widths_are_aligned_and_in_range(net: Network) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        for group, width, step in zip(net.analysis.groups, cpu_model._random_widths(net, rng), net.steps, strict=True):
            assert 0 < width <= group.size
            assert width % step == 0


def test_float_is_measured_at_fewer_widths_where_there_is_int8(net: Network) -> None:
    def widths_of(quantizable: bool) -> dict[str, int]:
        found = cpu_model._variants(net, quantizable, True, np.random.default_rng(0))
        uniform = [v.formats for v in found if not v.mixed]
        return {"float": uniform.count(("fp32",) * len(net.blocks)), "all": len(uniform)}

    assert widths_of(quantizable=False) == {"float": 7, "all": 7}
    assert widths_of(quantizable=True) == {"float": 4, "all": 4 + 2 * 7}
