from __future__ import annotations

import numpy as np
import pytest

from edgeprune.graph.edit import remove_dead
from edgeprune.passes.canonicalize.fold_batchnorm import fold_batchnorm
from edgeprune.passes.verify.equality import relative_error
from tests.passes.models import ops, parse, random, run

TOLERANCE = 2e-6
"""Folding rounds each weight once more: some units in the last place of the largest output."""


def statistics(channels: int) -> dict[str, np.ndarray]:
    return {
        "g": random(channels, seed=1),
        "b": random(channels, seed=2),
        "m": random(channels, seed=3),
        "v": np.abs(random(channels, seed=4)) + 0.3,
    }


def check(text: str, x: np.ndarray, folded: int, remaining: dict[str, int], **weights: np.ndarray) -> None:
    model = parse(text, **weights)
    expected = run(model, x=x)[0]
    assert fold_batchnorm(model) == folded
    remove_dead(model.graph)
    assert ops(model) == remaining
    assert relative_error(expected, run(model, x=x)[0]) <= TOLERANCE
    assert "y" in {value.name for value in model.graph.outputs}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_into_a_convolution(group: int, bias: bool) -> None:
    text = f"""g (float[2,4,6,6] x) => (float[2,6,4,4] y) {{
        h = Conv<group={group}>(x, w{", c" if bias else ""})
        y = BatchNormalization(h, g, b, m, v) }}"""
    weights = {"w": random(6, 4 // group, 3, 3), **({"c": random(6, seed=9)} if bias else {})}
    check(text, random(2, 4, 6, 6, seed=7), 1, {"Conv": 1}, **weights, **statistics(6))


@pytest.mark.parametrize("group", [1, 2])
def test_into_a_transposed_convolution(group: int) -> None:
    text = f"""g (float[2,4,5,5] x) => (float[2,6,10,10] y) {{
        h = ConvTranspose<group={group}, strides=[2, 2]>(x, w)
        y = BatchNormalization(h, g, b, m, v) }}"""
    check(
        text,
        random(2, 4, 5, 5, seed=7),
        1,
        {"ConvTranspose": 1},
        w=random(4, 6 // group, 2, 2),
        **statistics(6),
    )


@pytest.mark.parametrize("transposed", [0, 1])
def test_into_a_gemm(transposed: int) -> None:
    text = f"""g (float[3,4] x) => (float[3,6] y) {{
        h = Gemm<transB={transposed}>(x, w, c)
        y = BatchNormalization(h, g, b, m, v) }}"""
    weight = random(6, 4) if transposed else random(4, 6)
    check(text, random(3, 4, seed=7), 1, {"Gemm": 1}, w=weight, c=random(6, seed=5), **statistics(6))


@pytest.mark.parametrize("bias", [True, False])
def test_into_a_linear_layer_on_tokens(bias: bool) -> None:
    text = f"""g (float[2,5,4] x) => (float[10,6] y) {{
        h = MatMul(x, w)
        {"h2 = Add(h, c)" if bias else "h2 = Identity(h)"}
        f = Flatten<axis=2>({"h2" if bias else "h"})
        y = BatchNormalization(f, g, b, m, v) }}"""
    remaining = {"MatMul": 1, "Add": 1, "Flatten": 1}
    weights = {"w": random(4, 6), **({"c": random(6, seed=8)} if bias else {})}
    if bias:
        check(text, random(2, 5, 4, seed=7), 1, remaining, **weights, **statistics(6))
    else:
        check(text.replace("h2 = Identity(h)", ""), random(2, 5, 4, seed=7), 1, remaining, **weights, **statistics(6))


def test_into_the_convolution_after_it() -> None:
    text = """g (float[2,4,6,6] x) => (float[2,6,4,4] y) {
        h = BatchNormalization(x, g, b, m, v)
        y = Conv(h, w) }"""
    check(text, random(2, 4, 6, 6, seed=7), 1, {"Conv": 1}, w=random(6, 4, 3, 3), **statistics(4))


def test_padding_keeps_it_apart() -> None:
    text = """g (float[2,4,6,6] x) => (float[2,6,6,6] y) {
        h = BatchNormalization(x, g, b, m, v)
        y = Conv<pads=[1, 1, 1, 1]>(h, w) }"""
    weights = {"w": random(6, 4, 3, 3), **statistics(4)}
    check(text, random(2, 4, 6, 6, seed=7), 0, {"BatchNormalization": 1, "Conv": 1}, **weights)


def test_a_second_reader_keeps_it_apart() -> None:
    text = """g (float[2,4,6,6] x) => (float[2,4,6,6] y) {
        h = Conv(x, w)
        n = BatchNormalization(h, g, b, m, v)
        y = Add(h, n) }"""
    remaining = {"Conv": 1, "BatchNormalization": 1, "Add": 1}
    check(text, random(2, 4, 6, 6, seed=7), 0, remaining, w=random(4, 4, 1, 1), **statistics(4))


def test_shared_weights_are_not_changed_for_others() -> None:
    text = """g (float[2,4,6,6] x) => (float[2,4,6,6] y) {
        h = Conv(x, w)
        n = BatchNormalization(h, g, b, m, v)
        y = Conv(n, w) }"""
    check(text, random(2, 4, 6, 6, seed=7), 1, {"Conv": 2}, w=random(4, 4, 1, 1), **statistics(4))


def test_a_bias_and_a_scale_behind_a_convolution() -> None:
    text = """g (float[2,4,6,6] x) => (float[2,6,6,6] y) {
        h = Conv(x, w)
        a = Add(bias, h)
        s = Div(a, scale)
        y = BatchNormalization(s, g, b, m, v) }"""
    weights = {"w": random(6, 4, 1, 1), "bias": random(1, 6, 1, 1, seed=5), "scale": np.float32([4]), **statistics(6)}
    check(text, random(2, 4, 6, 6, seed=7), 3, {"Conv": 1}, **weights)


def test_arithmetic_that_differs_from_place_to_place_stays() -> None:
    text = "g (float[1,4,6,6] x) => (float[1,6,6,6] y) { h = Conv(x, w)\n y0 = Add(h, c)\n y = Relu(y0) }"
    check(text, random(1, 4, 6, 6), 0, {"Conv": 1, "Add": 1, "Relu": 1}, w=random(6, 4, 1, 1), c=random(6, 6))
