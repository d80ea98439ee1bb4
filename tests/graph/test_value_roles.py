"""Positions, scales, states and thresholds are found by who reads them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.graph import value_roles
from edgeprune.graph.model_io import infer_shapes

REFINED = """
g (float[1, 16, 8, 8] a, float[1, 16, 8, 8] b, float[1, 2, 8, 8] grid) => (float[1, 16, 8, 8] y) {
  step = Conv<pads=[1, 1, 1, 1]>(a, w)
  once = Add(grid, step)
  pair = Concat<axis=1>(a, once)
  again = Conv<pads=[1, 1, 1, 1]>(pair, v)
  twice = Add(once, again)
  t = Transpose<perm=[0, 2, 3, 1]>(twice)
  y = GridSample(b, t)
}"""

GRU = """
g (float[1, 16, 8, 8] x, float[1, 16, 8, 8] h) => (float[1, 16, 8, 8] y, float[1, 16, 8, 8] new) {
  z = Conv<pads=[1, 1, 1, 1]>(x, w)
  n = Tanh(z)
  g = Sigmoid(z)
  k = Mul(g, h)
  new = Add(k, n)
  r = Relu(new)
  y = Conv<pads=[1, 1, 1, 1]>(r, w)
}"""

RESIDUAL = """
g (float[1, 16, 8, 8] x) => (float[1, 16, 8, 8] y) {
  c = Conv<pads=[1, 1, 1, 1]>(x, w)
  y = Add(x, c)
}"""

MASKED = """
g (float[1, 16] x, float[1] limit) => (float[1, 16] y) {
  s = Sigmoid(x)
  m = Greater(s, limit)
  y = Where(m, x, s)
}"""

LEAKY = """
g (float[1, 16] x) => (float[1, 16] y) {
  s = Mul(x, x)
  m = Greater(s, zero)
  y = Where(m, s, x)
}"""

SCALED = """
g (float[1, 3, 8, 8] x, float[1] ratio) => (float[n, c, h, w] y) {
  half = Mul(ratio, ratio)
  scales = Concat<axis=0>(ones, half, ratio)
  y = Resize<mode="linear">(x, , scales)
}"""

COUNTED = """
g (float[1, 16] x) => (float[1, 16] y) {
  s = Shape(x)
  f = Cast<to=1>(s)
  n = Gather(f, one)
  p = CumSum(x, one)
  q = Div(p, n)
  r = Sin(q)
  y = Add(x, r)
}"""


def roles(text: str, **constants: np.ndarray) -> dict[str, str]:
    proto = onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>\n' + text.strip())
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    found = value_roles(infer_shapes(ir.serde.deserialize_model(proto)).graph)
    return {str(value.name): role for value, role in found.items()}


def test_positions_that_convolutions_refine() -> None:
    w, v = np.ones((2, 16, 3, 3), np.float32), np.ones((2, 18, 3, 3), np.float32)
    found = roles(REFINED, w=w, v=v)
    assert set(found) == {"grid", "step", "once", "again", "twice", "t"}
    assert found["once"].startswith("sampling positions of ")


def test_what_carries_a_state_to_an_output() -> None:
    found = roles(GRU, w=np.ones((16, 16, 3, 3), np.float32))
    assert set(found) == {"k", "new"}
    assert found["new"] == "a state, which an output returns"


def test_a_residual_connection_is_no_state() -> None:
    assert roles(RESIDUAL, w=np.ones((16, 16, 3, 3), np.float32)) == {}


def test_operands_of_a_comparison_but_not_with_zero() -> None:
    found = roles(MASKED)
    assert {"s", "limit"} <= set(found)
    assert roles(LEAKY, zero=np.zeros(1, np.float32)) == {}


@pytest.mark.parametrize("name", ["scales", "half", "ratio", "ones"])
def test_scales_of_a_resize(name: str) -> None:
    found = roles(SCALED, ones=np.ones(2, np.float32))
    assert found[name].startswith("scales of ")
    assert "x" not in found


def test_counted_positions_and_sizes_up_to_a_sine() -> None:
    found = roles(COUNTED, one=np.array(1))
    assert {"f", "p", "q"} <= set(found)
    assert not {"r", "y"} & set(found)
