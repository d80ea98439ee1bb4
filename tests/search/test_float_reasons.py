"""What is said of launches that stay in float although INT8 was asked for."""

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
    return ["int8" if "int8" in found.latency.formats(b) else "fp16" for b in range(len(found.latency.launches))]


def test_what_has_no_int8_form(cnn: GpuNetwork) -> None:
    assert sentence(cnn, in_int8(cnn)) == "INT8 was asked for, and of 3 launches 1 stays in fp16: 1 has no INT8 form"


def test_what_is_faster_in_int8_was_left_out_for_accuracy(cnn: GpuNetwork) -> None:
    found = sentence(cnn, ["fp16", "int8", "fp16"])
    assert found is not None
    assert found.endswith("1 has no INT8 form; 1 would cost accuracy")


def test_small_products_are_slower_where_operands_are_quantized_first() -> None:
    mlp = described(MLP, w1=(128, 256), w2=(256, 128))
    found = sentence(mlp, ["fp16", "fp16"])
    assert found is not None
    assert "of 2 launches 2 stay in fp16: 2 are predicted to take" in found
    assert "each operand takes a launch to quantize" in found
    measured = sentence(mlp, ["fp16", "fp16"], source="measured")
    assert measured is not None
    assert "2 are measured to take" in measured
    assert "quantize" not in measured


def test_nothing_is_said_where_all_is_int8() -> None:
    mlp = described(MLP, w1=(128, 256), w2=(256, 128))
    assert sentence(mlp, ["int8", "int8"]) is None
