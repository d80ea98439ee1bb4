"""Fake quantization gives onnxruntime's integers, and gradients pass it as in the paper on learned step sizes."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprune.backends import OnnxRuntime
from tests.small_models import build, normal

torch = pytest.importorskip("torch")

from edgeprune.executor import GraphModule  # noqa: E402

QDQ = """g (float[2, 6] x) => (float[2, 6] y) {
  z = Constant <value = uint8 {100}> ()
  q = QuantizeLinear (x, s, z)
  y = DequantizeLinear (q, s, z)
}"""


def test_values_are_those_of_onnxruntime() -> None:
    model, x = build(QDQ, s=np.float32(0.02)), 3 * normal(2, 6)
    np.testing.assert_array_equal(GraphModule(model).run({"x": x})["y"], OnnxRuntime().load(model).run({"x": x})[0])


def test_gradients_of_activation_and_scale() -> None:
    module = GraphModule(build(QDQ, s=np.float32(0.5)), ["s"])
    x = torch.tensor([[0.1, 0.3, -0.8, 1.0, 200.0, -200.0]]).repeat(2, 1).requires_grad_()
    module({"x": x})["y"].sum().backward()
    assert x.grad is not None
    # Inside the range the gradient passes; where the value is cut it does not.
    assert x.grad[0].tolist() == [1, 1, 1, 1, 0, 0]
    # Esser et al. 2020, eq. 3: rounding error inside, the limit outside.
    inside = [round(v / 0.5) - v / 0.5 for v in (0.1, 0.3, -0.8, 1.0)]
    wanted = 2 * (sum(inside) + (255 - 100) + (0 - 100))
    assert module.weights[0].grad.item() == pytest.approx(wanted, rel=1e-5)


def test_weights_with_a_scale_for_every_channel() -> None:
    text = """g (float[1, 3, 4, 4] x) => (float[1, 2, 4, 4] y) {
      q = Constant <value = int8[2, 3, 1, 1] {1, -2, 3, 100, -128, 127}> ()
      w = DequantizeLinear <axis = 0> (q, s)
      y = Conv (x, w)
    }"""
    model = build(text, s=np.array([0.1, 0.3]))
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)
    found = GraphModule(model).run({"x": x})["y"]
    np.testing.assert_allclose(found, OnnxRuntime().load(model).run({"x": x})[0], rtol=1e-5, atol=1e-5)
