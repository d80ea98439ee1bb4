"""Equalization: the same function, with channels that quantize better."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, open_calibration
from edgeprune.passes.quantize.equalize import apply_scale, choose_scale, equalize, expected_noise
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.passes.x86.quantize_x86 import quantize_x86, values_to_quantize
from edgeprune.quantization.channel_ranges import channel_ranges
from edgeprune.quantization.channel_scaling import find_scalings
from edgeprune.quantization.ranges import histograms
from tests.passes.models import parse, random, run
from tests.quantization.test_ranges import least_error

SPREAD = np.array([1, 30, 0.02, 3, 0.3, 10, 0.1, 1], np.float32)
"""Factors of channels that only a scale apart would fit into 8 bits."""

CHAIN = """
net (float[n,4,8,8] x) => (float[n,5] y) {
    a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(x, w1, b1)
    r = Relu(a)
    d = Conv<kernel_shape=[3,3], pads=[1,1,1,1], group=8>(r, w2, b2)
    s = LeakyRelu(d)
    p = MaxPool<kernel_shape=[2,2], strides=[2,2]>(s)
    e = Conv(p, w3)
    t = Relu(e)
    g = GlobalAveragePool(t)
    f = Flatten(g)
    y = Gemm<transB=1>(f, w4, b4)
}"""
NORM = """
net (float[n,6,8] x) => (float[n,6,12] y, float[n,6,8] z) {
    h = LayerNormalization(x, gain, shift)
    y = MatMul(h, w1)
    m = MatMul(h, w2)
    k = Add(m, b2)
    z = MatMul(k, w3)
}"""


def chain() -> ir.Model:
    return parse(
        CHAIN,
        w1=random(8, 4, 3, 3, seed=1) * SPREAD[:, None, None, None],
        b1=random(8, seed=2) * SPREAD,
        w2=random(8, 1, 3, 3, seed=3),
        b2=random(8, seed=4),
        w3=random(8, 8, 1, 1, seed=5) / SPREAD[:, None, None],
        w4=random(5, 8, seed=6),
        b4=random(5, seed=7),
    )


def norm() -> ir.Model:
    return parse(
        NORM,
        gain=SPREAD,
        shift=random(8, seed=1) * SPREAD,
        w1=random(8, 12, seed=2) / SPREAD[:, None],
        w2=random(8, 8, seed=3) / SPREAD[:, None],
        b2=random(8, seed=4),
        w3=random(8, 8, seed=5),
    )


def data_for(model: ir.Model, folder: Path) -> tuple[Calibration, NDArray[Any]]:
    shape = [d if isinstance(d, int) else 48 for d in model.graph.inputs[0].shape or ()]
    x = random(*shape, seed=9)
    np.savez(folder / "x.npz", x=x)
    return open_calibration(str(folder / "x.npz"), model), x


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    return model


@pytest.mark.parametrize("build", [chain, norm])
def test_the_function_stays_and_loses_less_in_int8(build: Any, tmp_path: Path) -> None:
    model = named(build())
    data, x = data_for(model, tmp_path)
    equal = equalize(model, data)
    wanted = run(model, x=x)
    for want, got in zip(wanted, run(equal, x=x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))

    def error(float_model: ir.Model) -> float:
        int8 = [n for n, ok in int8_eligible(float_model).items() if ok]
        found = histograms(float_model, values_to_quantize(float_model, int8), data)
        bounds = {n: ((r := least_error(h)).low, r.high) for n, h in found.items()}
        outputs = run(quantize_x86(float_model, int8, bounds), x=x)
        return sum(float(((a - b) ** 2).mean() / b.var()) for a, b in zip(outputs, wanted, strict=True))

    assert error(equal) < 0.3 * error(model)


@pytest.mark.parametrize("build", [chain, norm])
def test_any_positive_scale_leaves_the_function(build: Any) -> None:
    model = named(build())
    shape = [d if isinstance(d, int) else 3 for d in model.graph.inputs[0].shape or ()]
    x = random(*shape, seed=4)
    wanted = run(model, x=x)
    scalings = find_scalings(model)
    for scaling in scalings:
        apply_scale(model, scaling, np.exp(random(scaling.channels, seed=5).astype(np.float64)))
    for want, got in zip(wanted, run(model, x=x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


def test_scalings_are_found_through_homogeneous_functions_only() -> None:
    found = {s.value: [r.node for r in s.readers] for s in find_scalings(named(chain()))}
    assert found == {"r": ["d"], "p": ["e"], "f": ["y"]}
    found = {s.value: [r.node for r in s.readers] for s in find_scalings(named(norm()))}
    assert found == {"h": ["y", "m"], "k": ["z"]}


@pytest.mark.parametrize("between", ["Sigmoid(a)", "Clip(a, zero, six)", "Add(a, a)", "Softmax(a)"])
def test_other_functions_keep_their_scale(between: str) -> None:
    text = f"net (float[n,4] x) => (float[n,5] y) {{ a = MatMul(x, w1) b = {between} y = MatMul(b, w2) }}"
    limits = {"zero": np.float32(0), "six": np.float32(6)} if "Clip" in between else {}
    assert not find_scalings(named(parse(text, w1=random(4, 8), w2=random(8, 5), **limits)))


def test_a_value_that_is_an_output_keeps_its_scale() -> None:
    text = "net (float[n,4] x) => (float[n,8] a, float[n,5] y) { a = MatMul(x, w1) y = MatMul(a, w2) }"
    assert not find_scalings(named(parse(text, w1=random(4, 8), w2=random(8, 5))))


def test_what_is_equal_already_is_left_alone(tmp_path: Path) -> None:
    text = "net (float[n,4] x) => (float[n,5] y) { a = MatMul(x, w1) y = MatMul(a, w2) }"
    model = named(parse(text, w1=np.eye(4, dtype=np.float32), w2=np.tile(np.eye(4, 5, dtype=np.float32), 1)))
    np.savez(tmp_path / "x.npz", x=np.sign(random(32, 4)))
    data = open_calibration(str(tmp_path / "x.npz"), model)
    (scaling,) = find_scalings(model)
    seen = channel_ranges(model, {scaling.value: scaling.axis}, data)[scaling.value]
    assert choose_scale(model, scaling, seen, symmetric=True) is None
    doubled = expected_noise(model, scaling, seen, np.full(4, 2.0), True)
    assert doubled == pytest.approx(expected_noise(model, scaling, seen, np.ones(4), True), rel=1e-12)
