"""The sentence about kernels that stay in float although INT8 was asked for."""

from __future__ import annotations

import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.devices.targets import load_profile
from edgeprune.latency.kernel_network import GpuNetwork, gpu_network
from edgeprune.search.float_reasons import stays_float
from edgeprune.search.solver import Candidate
from edgeprune.testing.oracle import parse

CNN = """
g (float[1, 64, 80, 80] x) => (float[1, 64, 80, 80] y) {
  a = Conv<pads=[1, 1, 1, 1]>(x, w1)
  b = Conv<pads=[1, 1, 1, 1]>(a, w2)
  y = Softmax<axis=1>(b)
}
"""
MLP = """
g (float[1, 50, 128] x) => (float[1, 50, 128] y) {
  a = MatMul(x, w1)
  b = Relu(a)
  y = MatMul(b, w2)
}
"""


def described(text: str, **shapes: tuple[int, ...]) -> GpuNetwork:
    model = parse(text, **shapes)
    return gpu_network(model, analyse(model), load_profile("orin").device(), ("fp16", "int8"), step=16, error=0.1)


def sentence(found: GpuNetwork, formats: list[str], source: str = "analytic") -> str | None:
    latency = found.latency
    candidate = Candidate(latency.sizes, tuple(formats), latency.total_us(latency.sizes, formats), 0.0)
    return stays_float(candidate, latency, latency, source)


@pytest.fixture(scope="module")
def cnn() -> GpuNetwork:
    return described(CNN, w1=(64, 64, 3, 3), w2=(64, 64, 3, 3))


def in_int8(found: GpuNetwork) -> list[str]:
    return ["int8" if "int8" in found.latency.formats(b) else "fp16" for b in range(len(found.network.blocks))]


def test_a_kernel_without_an_int8_form(cnn: GpuNetwork) -> None:
    assert sentence(cnn, in_int8(cnn)) == "INT8 was asked for, but 1 of 3 kernels stays in fp16: 1 has no INT8 form"


def test_a_kernel_that_is_faster_in_int8_stays_float_for_accuracy(cnn: GpuNetwork) -> None:
    found = sentence(cnn, ["fp16", "int8", "fp16"])
    assert found is not None
    assert found.endswith("1 has no INT8 form; 1 would cost accuracy")


def test_small_matmuls_are_slower_if_their_operands_must_be_quantized() -> None:
    mlp = described(MLP, w1=(128, 256), w2=(256, 128))
    found = sentence(mlp, ["fp16", "fp16"])
    assert found is not None
    assert "2 of 2 kernels stay in fp16: 2 are predicted to need" in found
    assert "each operand needs a kernel to quantize it" in found
    measured = sentence(mlp, ["fp16", "fp16"], source="measured")
    assert measured is not None
    assert "2 are measured to need" in measured
    assert "quantize" not in measured


def test_there_is_no_sentence_if_all_kernels_run_in_int8() -> None:
    mlp = described(MLP, w1=(128, 256), w2=(256, 128))
    assert sentence(mlp, ["int8", "int8"]) is None
