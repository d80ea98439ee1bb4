from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from edgeprune.errors import ModelError
from edgeprune.graph import model_io as graphs
from edgeprune.passes.verify.equality import relative_error, verify_equal
from edgeprune.passes.verify.random_inputs import random_feeds
from tests.passes.models import parse, random


def test_equal_models() -> None:
    first = parse("g (float[batch,3] x) => (float[batch,3] y) { a = Add(x, x)\n y = Relu(a) }")
    second = parse("g (float[batch,3] x) => (float[batch,3] y) { r = Relu(x)\n y = Add(r, r) }")
    assert verify_equal(first, second)


@pytest.mark.parametrize("scale", [1.001, -1, np.nan])
def test_different_models(scale: float) -> None:
    first = parse("g (float[batch,3] x) => (float[batch,3] y) { y = Mul(x, s) }", s=np.float32(1))
    second = parse("g (float[batch,3] x) => (float[batch,3] y) { y = Mul(x, s) }", s=np.float32(scale))
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_equal(first, second)


def test_other_shape() -> None:
    first = parse("g (float[4,3] x) => (float[a,b] y) { y = Relu(x) }")
    second = parse("g (float[4,3] x) => (float[a,b] y) { y = Transpose(x) }")
    with pytest.raises(ModelError, match=r"float32\[4, 3\] in the original and float32\[3, 4\] after"):
        verify_equal(first, second)


def test_a_model_that_amplifies_its_last_bit_is_held_as_close_as_it_holds_itself() -> None:
    text = "g (float[64] x) => (float[64] y) { a = Mul(x, s)\n b = Sub(a, t)\n y = Sub(b, x) }"
    first = parse(text, s=np.float32(1), t=np.float32(0))
    with pytest.raises(ModelError):
        verify_equal(first, parse(text, s=np.float32(1.5), t=np.float32(0)))
    chaotic = "g (float[64] x) => (float[64] y) { a = Mul(x, s)\n y = Sin(a) }"
    verify_equal(parse(chaotic, s=np.float32(4000)), parse(chaotic, s=np.nextafter(np.float32(4000), np.float32(5000))))


@pytest.mark.parametrize(
    "end",
    [
        "y = Sigmoid(b)",
        "s = Sigmoid(b)\n y = Transpose<perm=[1,0]>(s)",
        "s = Sigmoid(b)\n y = Mul(b, s)",
        "y = Softplus(b)",
        "s = Sigmoid(n)\n y = Sub(one, s)",
    ],
)
def test_outputs_far_below_the_rounding_of_a_sigmoid_are_compared_before_it(end: str) -> None:
    text = "g (float[64,64] x) => (float[64,64] y) { a = Mul(x, s0)\n b = Add(a, t)\n n = Neg(b)\n " + end + " }"
    constants = {"t": np.float32(-15.7), "one": np.float32(1)}
    first = parse(text, s0=np.float32(0.3), **constants)
    assert verify_equal(first, parse(text, s0=np.nextafter(np.float32(0.3), np.float32(1)), **constants))
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_equal(first, parse(text, s0=np.float32(0.303), **constants))
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_equal(first, parse(text, s0=np.float32(0.3), **{**constants, "t": np.float32(-15.5)}))


def test_an_end_that_differs_is_no_excuse() -> None:
    text = "g (float[64,64] x) => (float[64,64] y) { b = Add(x, t)\n y = OP(b) }"
    first, second = (parse(text.replace("OP", op), t=np.float32(-15.7)) for op in ("Sigmoid", "Relu"))
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_equal(first, second)


def test_a_model_that_jumps_at_one_of_the_draws_is_held_on_the_others() -> None:
    text = "g (float[1] x) => (float[1] y) { a = Greater(x, t)\n b = Cast<to=1>(a)\n y = Add(x, b) }"
    feeds = random_feeds(parse(text, t=np.zeros(1, np.float32)), {"x": (1,)}, seed=0)
    assert feeds is not None
    edge, eps = feeds["x"], np.finfo(np.float32).eps
    below, above = (np.float32(edge * (1 + 2 * eps * sign)) for sign in (-np.sign(edge), np.sign(edge)))
    assert verify_equal(parse(text, t=below), parse(text, t=above))
    with pytest.raises(ModelError, match="output 'y' is off by"):
        verify_equal(parse(text, t=below), parse(text, t=np.full(1, 10, np.float32)))


def test_a_large_model_is_compared_on_more_draws_only_if_it_differs_on_the_first(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edgeprune.passes.verify.equality._DRAWN_MACS", 1)
    text = "g (float[1,2] x) => (float[1,2] y) { y = MatMul(x, w) }"
    right, wrong = (parse(text, w=np.full((2, 2), value, np.float32)) for value in (1, 2))
    with caplog.at_level(logging.INFO):
        assert verify_equal(right, right)
        assert not caplog.records
        with pytest.raises(ModelError, match="output 'y' is off by"):
            verify_equal(right, wrong)
    assert "compared on more inputs" in caplog.text


def test_models_that_cannot_be_run_are_not_compared(caplog: pytest.LogCaptureFixture) -> None:
    model = parse("g (float[3] x) => (float[3] y) { y = com.acme.Swoosh(x) }", extra=', "com.acme" : 1')
    with caplog.at_level(logging.WARNING):
        assert not verify_equal(model, model)
    assert "not verified numerically" in caplog.text


def test_feeds() -> None:
    model = parse("g (float[batch,3,h,h] x, int64[batch] i, bool[2] c) => (float[a,b,c1,d] y) { y = Relu(x) }")
    feeds = random_feeds(model, {"x": (2, 3, 8, 8), "i": (2,), "c": (2,)}, seed=0)
    assert feeds is not None
    assert {name: (array.shape, array.dtype.name) for name, array in feeds.items()} == {
        "x": ((2, 3, 8, 8), "float32"),
        "i": ((2,), "int64"),
        "c": ((2,), "bool"),
    }


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (np.array([1.0, -4]), np.array([1.0, -4.4]), 0.1),
        (np.array([1, 2]), np.array([1, 2]), 0),
        (np.array([1, 2]), np.array([1, 3]), np.inf),
        (np.array([np.nan, 2.0]), np.array([np.nan, 2.0]), 0),
        (np.array([np.inf, 2.0]), np.array([-np.inf, 2.0]), np.inf),
        (np.array([np.inf, 2.0]), np.array([1.0, 2.0]), np.inf),
        (np.zeros(0), np.zeros(0), 0),
    ],
)
def test_relative_error(a: np.ndarray, b: np.ndarray, error: float) -> None:
    assert relative_error(a, b) == pytest.approx(error, rel=1e-12)


def test_errors_are_relative_to_the_largest_value() -> None:
    x = random(100)
    assert relative_error(1000 * x, 1000 * x + 1) == pytest.approx(1 / np.abs(1000 * x).max(), rel=1e-3)


def test_models_too_large_for_one_protobuf_are_compared_through_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.graph.EXTERNAL_DATA_BYTES", 100)
    text = "g (float[4,16] x) => (float[4,16] y) { y = MatMul(x, w) }"
    first, second = parse(text, w=random(16, 16)), parse(text, w=random(16, 16, seed=1))
    assert verify_equal(first, first)
    with pytest.raises(ModelError):
        verify_equal(first, second)


def test_external_weights_are_mapped_not_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "g (float[4,16] x) => (float[4,16] y) { y = MatMul(x, w) }"
    models = []
    for seed in (0, 1):
        path = tmp_path / f"{seed}.onnx"
        graphs.save(parse(text, w=random(16, 16, seed=seed)), path, external_data=True)
        models.append(graphs.load(path))
    monkeypatch.setattr("edgeprune.graph.EXTERNAL_DATA_BYTES", 100)
    monkeypatch.setattr("edgeprune.graph.save", lambda *_: pytest.fail("the weights were copied"))
    assert verify_equal(models[0], models[0])
    with pytest.raises(ModelError, match="differs"):
        verify_equal(*models)


@pytest.mark.parametrize(("step", "refused"), [(0.001, False), (2.0, True)])
def test_bytes_of_a_float_model_differ_by_one_step_at_most(step: float, refused: bool) -> None:
    """A Cast cuts off: a value just below an integer is one step off after a change of the last bit, never two."""
    text = """g (float[4,16] x) => (uint8[4,16] y) { z = Clip(x, zero, one) s = Mul(z, k) t = Add(s, c)
        y = Cast<to=2>(t) }"""
    weights = {"zero": np.float32(0), "one": np.float32(1), "k": np.float32(200)}
    reference = parse(text, **weights, c=np.float32(20))
    other = parse(text, **weights, c=np.float32(20 + step))
    if refused:
        with pytest.raises(ModelError, match="integers that differ by more than one"):
            verify_equal(reference, other)
    else:
        assert verify_equal(reference, other)


def test_bytes_of_a_quantized_model_are_numbers() -> None:
    text = """g (float[4,16] x) => (uint8[4,16] y) {
        q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) t = Add(d, c)
        y = QuantizeLinear(t, s, z) }"""
    weights = {"s": np.float32(0.02), "z": np.uint8(128)}
    first, other = (parse(text, **weights, c=np.float32(c)) for c in (0.0, 0.04))
    assert verify_equal(first, other)
