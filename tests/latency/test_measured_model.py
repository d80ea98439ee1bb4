"""A device's own heights on the analytic stairs."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.kernel_network import GpuNetwork, gpu_network
from edgeprune.latency.measured_model import Sample, fit_measured
from edgeprune.testing.oracle import parse

TEXT = """
g (float[1, 32, 56, 56] x) => (float[1, 32, 56, 56] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1, b1)
  r = Relu(a)
  b = Conv<pads=[1, 1, 1, 1]>(r, w2, b2)
  s = Relu(b)
  y = Conv(s, w3, b3)
}
"""
WEIGHTS = {
    "w1": (128, 32, 3, 3), "b1": (128,), "w2": (128, 128, 3, 3), "b2": (128,), "w3": (32, 128, 1, 1), "b3": (32,)
}  # fmt: skip


@pytest.fixture
def gpu() -> GpuNetwork:
    model = parse(TEXT, **WEIGHTS)
    device = load_profile("orin-nano-8").device()
    return gpu_network(model, analyse(model), device, ("fp16", "int8"), step=32, error=0.0)


def sample(gpu: GpuNetwork, widths: tuple[int, ...], fmt: str, slower: float) -> Sample:
    formats = (fmt,) * len(gpu.network.blocks)
    w = np.array(widths, dtype=np.int64)
    times = tuple(slower * gpu.latency.block_us(b, f, w) for b, f in enumerate(formats))
    return Sample(w, formats, times, sum(times) + 5.0)


def test_a_device_that_is_slower_by_one_factor_is_fitted_exactly(gpu: GpuNetwork) -> None:
    dense = tuple(int(s) for s in gpu.latency.sizes)
    samples = [sample(gpu, w, f, 1.7) for w in (dense, (64, 96), (96, 64)) for f in ("fp16", "int8")]
    model = fit_measured(gpu.latency, samples)
    for s in samples:
        assert model.total_us(s.widths, s.formats) == pytest.approx(s.total_us, rel=1e-3)
    assert model.error < 0.01
    assert model.call_us == pytest.approx(5.0)


def test_a_kernel_in_fp32_is_slower_than_measured_as_the_analytic_model_says(gpu: GpuNetwork) -> None:
    sizes = gpu.latency.sizes
    dense = tuple(int(s) for s in sizes)
    model = fit_measured(gpu.latency, [sample(gpu, dense, f, 1.7) for f in ("fp16", "int8")])
    wide, analytic = model.in_float32([1]), gpu.latency.in_float32([1])
    ratio = analytic.block_us(1, "fp16", sizes) / gpu.latency.block_us(1, "fp16", sizes)
    assert ratio > 1.2
    assert wide.block_us(1, "fp16", sizes) == pytest.approx(ratio * model.block_us(1, "fp16", sizes))
    assert wide.block_us(1, "int8", sizes) == model.block_us(1, "int8", sizes)
    assert wide.block_us(0, "fp16", sizes) == model.block_us(0, "fp16", sizes)


def test_formats_that_were_not_measured_are_not_offered(gpu: GpuNetwork) -> None:
    dense = tuple(int(s) for s in gpu.latency.sizes)
    model = fit_measured(gpu.latency, [sample(gpu, dense, "fp16", 1.2)])
    assert {model.formats(b) for b in range(len(gpu.network.blocks))} == {("fp16",)}


def test_a_narrower_network_is_never_slower(gpu: GpuNetwork) -> None:
    dense = tuple(int(s) for s in gpu.latency.sizes)
    rng = np.random.default_rng(0)
    noisy = []
    for widths in (dense, (64, 96), (96, 64)):
        s = sample(gpu, widths, "fp16", 1.0)
        times = tuple(t * float(rng.uniform(0.5, 2)) for t in s.block_us)
        noisy.append(Sample(s.widths, s.formats, times, sum(times)))
    model = fit_measured(gpu.latency, noisy)
    formats = ("fp16",) * len(gpu.network.blocks)
    curve = [model.total_us(np.array([w, w]), formats) for w in (32, 64, 96, 128)]
    assert curve == sorted(curve)


def test_corrections_multiply(gpu: GpuNetwork) -> None:
    dense = tuple(int(s) for s in gpu.latency.sizes)
    model = fit_measured(gpu.latency, [sample(gpu, dense, "fp16", 1.2)])
    formats = ("fp16",) * len(gpu.network.blocks)
    before = model.total_us(gpu.latency.sizes, formats)
    assert model.corrected(2).corrected(0.75).total_us(gpu.latency.sizes, formats) == pytest.approx(1.5 * before)
