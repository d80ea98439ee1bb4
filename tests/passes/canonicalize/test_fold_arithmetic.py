from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune.graph.edit import remove_dead
from edgeprune.passes.canonicalize.fold_batchnorm import fold_batchnorm
from edgeprune.passes.verify.equality import relative_error
from tests.passes.models import ops, parse, random, run

TOLERANCE = 2e-6
"""Folding rounds each weight once more: some units in the last place of the largest output."""


def check(text: str, x: np.ndarray, remaining: dict[str, int], **weights: Any) -> None:
    model = parse(text, **weights)
    expected = run(model, x=x)[0]
    fold_batchnorm(model)
    remove_dead(model.graph)
    assert ops(model) == remaining
    assert relative_error(expected, run(model, x=x)[0]) <= TOLERANCE


def test_a_layer_scale_behind_a_linear_layer_and_a_transpose() -> None:
    """As ConvNeXt's blocks end: tokens to channels first, scaled, added."""
    text = """g (float[N,6,4,4] r, float[N,4,4,5] x) => (float[N,6,4,4] y) {
        m = MatMul(x, w)
        b = Add(m, c)
        t = Transpose<perm=[0, 3, 1, 2]>(b)
        s = Mul(gamma, t)
        y = Add(r, s) }"""
    weights = {"w": random(5, 6), "c": random(6, seed=1), "gamma": random(1, 6, 1, 1, seed=2)}
    model = parse(text, **weights)
    feeds = {"r": random(2, 6, 4, 4, seed=3), "x": random(2, 4, 4, 5, seed=4)}
    expected = run(model, **feeds)[0]
    assert fold_batchnorm(model) == 1
    remove_dead(model.graph)
    assert ops(model) == {"MatMul": 1, "Transpose": 1, "Add": 2}
    assert relative_error(expected, run(model, **feeds)[0]) <= TOLERANCE
    shapes = {name: tuple(v.const_value.shape) for name, v in model.graph.initializers.items() if v.const_value}
    assert sorted(shapes.values()) == [(5, 6), (6,)]


def test_a_layer_scale_of_tokens_makes_no_bias() -> None:
    text = "g (float[2,3,5] x) => (float[2,3,6] y) { h = MatMul(x, w)\n y0 = Mul(h, gamma)\n y = Relu(y0) }"
    check(text, random(2, 3, 5), {"MatMul": 1, "Relu": 1}, w=random(5, 6), gamma=random(6, seed=1))


def test_a_divisor_behind_a_reshaped_product() -> None:
    text = """g (float[2,3,5] x) => (float[6,6] y) {
        h = MatMul(x, w)
        f = Reshape(h, rows)
        d = Div(f, gamma)
        y = Relu(d) }"""
    weights = {"w": random(5, 6), "rows": np.array([-1, 6]), "gamma": random(6, seed=1)}
    check(text, random(2, 3, 5), {"MatMul": 1, "Reshape": 1, "Relu": 1}, **weights)


@pytest.mark.parametrize("bias", [True, False])
def test_a_scale_behind_a_gemm_and_a_convolution(bias: bool) -> None:
    more = ", c" if bias else ""
    weights = {"gamma": random(1, 6, seed=1), **({"c": random(6, seed=2)} if bias else {})}
    text = f"g (float[3,5] x) => (float[3,6] y) {{ h = Gemm(x, w{more})\n y0 = Mul(h, gamma)\n y = Relu(y0) }}"
    check(text, random(3, 5), {"Gemm": 1, "Relu": 1}, w=random(5, 6), **weights)
    text = f"""g (float[1,4,5,5] x) => (float[1,5,5,6] y) {{
        h = Conv(x, w{more})
        t = Transpose<perm=[0, 2, 3, 1]>(h)
        y0 = Mul(t, gamma)
        y = Relu(y0) }}"""
    check(text, random(1, 4, 5, 5), {"Conv": 1, "Transpose": 1, "Relu": 1}, w=random(6, 4, 1, 1), **weights)


@pytest.mark.parametrize(
    ("tail", "remaining"),
    [
        ("y0 = Mul(h, gamma)\n y = Add(y0, h)", {"MatMul": 1, "Mul": 1, "Add": 1}),  # the product is read twice
        ("t = Transpose<perm=[0, 2, 1]>(h)\n y0 = Mul(t, gamma)\n y = Relu(y0)",
         {"MatMul": 1, "Transpose": 1, "Mul": 1, "Relu": 1}),  # along another axis
        ("r = Relu(h)\n y0 = Mul(r, gamma)\n y = Relu(y0)", {"MatMul": 1, "Relu": 2, "Mul": 1}),
        ("y0 = Div(gamma, h)\n y = Relu(y0)", {"MatMul": 1, "Div": 1, "Relu": 1}),
        ("y0 = Mul(h, table)\n y = Relu(y0)", {"MatMul": 1, "Mul": 1, "Relu": 1}),  # differs from token to token
        ("y0 = Mul(h, one)\n y = Relu(y0)", {"MatMul": 1, "Mul": 1, "Relu": 1}),
    ],
)  # fmt: skip
def test_what_stays(tail: str, remaining: dict[str, int]) -> None:
    text = f"g (float[2,6,5] x) => (float[2,6,6] y) {{ h = MatMul(x, w)\n {tail} }}"
    weights = {"gamma": random(6, seed=1), "table": random(6, 6, seed=2), "one": np.float32([3])}
    check(text, random(2, 6, 5), remaining, w=random(5, 6), **{k: v for k, v in weights.items() if k in tail})


def test_a_weight_that_others_read_stays_theirs() -> None:
    text = """g (float[2,6,6] x) => (float[2,6,6] y) {
        h = MatMul(x, w)
        s = Mul(h, gamma)
        y = MatMul(s, w) }"""
    check(text, random(2, 6, 6), {"MatMul": 2}, w=random(6, 6), gamma=random(6, seed=1))
