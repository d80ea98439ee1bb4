"""Layers of low rank in a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune.errors import PassError
from edgeprune.graph import Refused
from edgeprune.passes.rank.factor_layers import factor_layers, factorable, first_of, principals
from edgeprune.passes.rank.factorization import principal
from edgeprune.passes.rank.fold_factors import fold_factors, layers_before
from edgeprune.passes.rank.multiply_factors import multiply_factors
from tests.passes.models import ops, parse, random, run
from tests.small_models import calibration


def named(model: ir.Model) -> ir.Model:
    for node in model.graph:
        node.name = str(node.outputs[0].name)
    return model


def layer(kind: str, seed: int = 0) -> tuple[ir.Model, dict[str, NDArray[np.float32]]]:
    """A layer of 12 inputs and 8 outputs with a bias, between two functions; and samples."""
    rows, weights = 64, {"b": random(8, seed=seed + 1)}
    text = {
        "MatMul": "net (float[n,5,12] x) => (float[n,5,8] y) { m = MatMul(x, w)\n s = Add(m, b)\n y = Relu(s) }",
        "Gemm": "net (float[n,12] x) => (float[n,8] y) { s = Gemm<alpha=0.5, beta=2.0>(x, w, b)\n y = Relu(s) }",
        "Gemm transB": "net (float[n,12] x) => (float[n,8] y) { s = Gemm<transB=1>(x, w, b)\n y = Relu(s) }",
        "Conv": "net (float[n,12,6,6] x) => (float[n,8,3,3] y) { s = Conv<strides=[2,2]>(x, w, b)\n y = Relu(s) }",
        "Conv 3x3": "net (float[n,12,6,6] x) => (float[n,8,6,6] y) "
        "{ s = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, w, b)\n y = Relu(s) }",
        "Conv, no bias": "net (float[n,12,6,6] x) => (float[n,8,6,6] y) { s = Conv(x, w)\n y = Relu(s) }",
    }[kind]
    shape = {"MatMul": (12, 8), "Gemm": (12, 8), "Gemm transB": (8, 12), "Conv 3x3": (8, 12, 3, 3)}
    weights["w"] = random(*shape.get(kind, (8, 12, 1, 1)), seed=seed)
    if "no bias" in kind:
        weights.pop("b")
    sizes = {"MatMul": (rows, 5, 12), "Gemm": (rows, 12), "Gemm transB": (rows, 12)}.get(kind, (rows, 12, 6, 6))
    return named(parse(text, **weights)), {"x": random(*sizes, seed=seed + 2)}


def split_to(model: ir.Model, name: str, rank: int, feeds: dict[str, NDArray[np.float32]]) -> ir.Model:
    (found,) = principals(model, [name], calibration(**feeds))
    return factor_layers(model, {name: found[1].factors(rank)})


KINDS = ("MatMul", "Gemm", "Gemm transB", "Conv", "Conv 3x3", "Conv, no bias")


def name_of(model: ir.Model) -> str:
    return next(iter(factorable(model)))


@pytest.mark.parametrize("kind", KINDS)
def test_seven_of_eight_directions_are_near_and_the_layer_keeps_its_names(kind: str) -> None:
    model, feeds = layer(kind)
    name = name_of(model)
    split = split_to(model, name, 7, feeds)
    assert [n.name for n in split.graph][:2] == [first_of(name), name]
    assert [n.name for n in split.graph][1:] == [n.name for n in model.graph]
    inner = next(n for n in split.graph if n.name == first_of(name)).outputs[0]
    assert inner.shape is not None
    assert 7 in inner.shape.numpy() if inner.shape.is_static() else 7 in [d for d in inner.shape if isinstance(d, int)]
    (dense,), (changed,) = run(model, **feeds), run(split, **feeds)
    assert np.abs(dense - changed).mean() < 0.5 * np.abs(dense).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_has_this_rank_stays_what_it_computes(kind: str) -> None:
    """Exact where nothing is lost, with the samples' covariance or without data."""
    model, feeds = layer(kind)
    name = name_of(model)
    weight = model.graph.initializers["w"]
    assert weight.const_value is not None
    array = weight.const_value.numpy()
    axis = 1 if kind in ("MatMul", "Gemm") else 0
    rows = np.moveaxis(array, axis, 0).reshape(8, -1)
    low = random(8, 3, seed=5) @ random(3, rows.shape[1], seed=6) / 4
    weight.const_value = ir.Tensor(np.moveaxis(low.reshape(8, *np.delete(array.shape, axis)), 0, axis).copy(), name="w")
    split = split_to(model, name, 3, feeds)
    (dense,), (changed,) = run(model, **feeds), run(split, **feeds)
    assert np.abs(dense - changed).max() <= 1e-5 * max(1.0, float(np.abs(dense).max()))


def test_full_rank_changes_nothing() -> None:
    model, feeds = layer("MatMul")
    assert split_to(model, "m", 8, feeds) is model


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("net (float[n,8,4,4] x) => (float[n,8,4,4] y) { y = Conv<group=8>(x, w) }", "grouped"),
        ("net (float[n,3,8] x) => (float[n,3,6] y) { a = MatMul(x, m)\n c = MatMul(x, m)\n y = Add(a, c) }", "shared"),
        ("net (float[n,8,3] x) => (float[n,6,3] y) { y = MatMul(t, x) }", "first operand"),
    ],
)
def test_layers_that_cannot_become_two_say_why(text: str, reason: str) -> None:
    weights: dict[str, Any] = {"w": random(8, 1, 1, 1), "m": random(8, 6), "t": random(6, 8)}
    model = named(parse(text, **weights))
    verdicts = factorable(model)
    assert all(isinstance(v, Refused) and reason in str(v) for v in verdicts.values())
    name = next(iter(verdicts))
    with pytest.raises(PassError, match=rf"{name!r} cannot become two: .*{reason}"):
        factor_layers(model, {name: principal(np.eye(4), np.eye(4)).factors(2)})


def test_an_unknown_layer_is_named() -> None:
    model, _ = layer("MatMul")
    with pytest.raises(PassError, match="the model has no layer 'none'"):
        factor_layers(model, {"none": principal(np.eye(4), np.eye(4)).factors(2)})


def test_any_directions_will_do_for_timing() -> None:
    model, _ = layer("MatMul")
    (found,) = principals(model, ["m"], None)
    split = factor_layers(model, {"m": found[1].factors(3)})
    assert [n.op_type for n in split.graph] == ["MatMul", "MatMul", "Add", "Relu"]


CHAINS = {
    "MatMul": "net (float[n,5,12] x) => (float[n,5,6] y) "
    "{ m = MatMul(x, p)\n s = Add(m, q)\n k = MatMul(s, w)\n t = Add(k, b)\n y = Relu(t) }",
    "MatMul, no bias": "net (float[n,5,12] x) => (float[n,5,6] y) "
    "{ m = MatMul(x, p)\n k = MatMul(m, w)\n y = Relu(k) }",
    "Gemm": "net (float[n,12] x) => (float[n,6] y) { m = Gemm<beta=0.5>(x, p, q)\n k = Gemm(m, w, b)\n y = Relu(k) }",
    "Conv": "net (float[n,12,6,6] x) => (float[n,6,6,6] y) "
    "{ m = Conv<pads=[1,1,1,1], kernel_shape=[3,3]>(x, p, q)\n k = Conv(m, w, b)\n y = Relu(k) }",
}


def chain(kind: str) -> tuple[ir.Model, dict[str, NDArray[np.float32]]]:
    conv = kind == "Conv"
    weights = {"p": random(10, 12, 3, 3) if conv else random(12, 10), "q": random(10, seed=1)}
    weights |= {"w": random(6, 10, 1, 1, seed=2) if conv else random(10, 6, seed=2), "b": random(6, seed=3)}
    used = {n: a for n, a in weights.items() if not ("no bias" in kind and n in "qb")}
    shape = {"Conv": (32, 12, 6, 6), "Gemm": (32, 12)}.get(kind, (32, 5, 12))
    return named(parse(CHAINS[kind], **used)), {"x": random(*shape, seed=4)}


@pytest.mark.parametrize("kind", CHAINS)
def test_a_linear_layer_before_takes_the_first_factor(kind: str) -> None:
    """Nothing but the rank changes the outputs, and no layer is added."""
    model, feeds = chain(kind)
    assert layers_before(model) == {"k": "m"}
    split = split_to(model, "k", 4, feeds)
    (apart,) = run(split, **feeds)
    assert fold_factors(split, ["k"]) == 1
    assert ops(split) == ops(model)
    (together,) = run(split, **feeds)
    assert np.abs(apart - together).max() <= 1e-5 * max(1.0, float(np.abs(apart).max()))
    widths = [n.outputs[0].shape for n in split.graph if n.name == "m"]
    assert widths[0] is not None
    assert widths[0][1 if kind == "Conv" else -1] == 4


def test_a_result_that_something_else_reads_is_not_folded() -> None:
    text = (
        "net (float[n,12] x) => (float[n,6] y, float[n,10] z) { m = Gemm(x, p, q)\n y = Gemm(m, w, b)\n z = Relu(m) }"
    )
    model = named(parse(text, p=random(12, 10), q=random(10), w=random(10, 6), b=random(6)))
    assert layers_before(model) == {}


def test_padding_behind_a_bias_is_not_folded() -> None:
    text = (
        "net (float[n,4,6,6] x) => (float[n,6,8,8] y) "
        "{ m = Conv(x, p, q)\n y = Conv<pads=[1,1,1,1], kernel_shape=[1,1]>(m, w, b) }"
    )
    model = named(parse(text, p=random(8, 4, 1, 1), q=random(8), w=random(6, 8, 1, 1), b=random(6)))
    assert layers_before(model) == {}


@given(
    kind=st.sampled_from(KINDS[:-1]),
    rank=st.integers(1, 7),
    seed=st.integers(0, 1000),
)
@settings(max_examples=12, deadline=None)
def test_random_layers_compute_what_their_factors_say(kind: str, rank: int, seed: int) -> None:
    """Against the product of the factors in NumPy, put into the original layer."""
    model, feeds = layer(kind, seed)
    name = name_of(model)
    factors = dict(principals(model, [name], calibration(**feeds)))[name].factors(rank)
    split = factor_layers(model, {name: factors})
    view = factorable(model)[name]
    assert not isinstance(view, Refused)
    weight, bias = model.graph.initializers["w"], model.graph.initializers["b"]
    assert weight.const_value is not None
    product = view.weight_from((factors.second @ factors.first)[None]).astype(np.float32)
    weight.const_value = ir.Tensor(np.ascontiguousarray(product), name="w")
    assert bias.const_value is not None
    shifted = bias.const_value.numpy() + factors.offset / view.bias.scale
    bias.const_value = ir.Tensor(shifted.astype(np.float32), name="b")
    (wanted,), (got,) = run(model, **feeds), run(split, **feeds)
    assert np.abs(wanted - got).max() <= 1e-4 * max(1.0, float(np.abs(wanted).max()))


@pytest.mark.parametrize("kind", KINDS)
def test_two_layers_become_one_again(kind: str) -> None:
    """Under the old names, and in the old form, whether the file states the window or not."""
    model, feeds = layer(kind)
    for node in model.graph:
        node.attributes.pop("kernel_shape", None)
    name = name_of(model)
    split = split_to(model, name, 3, feeds)
    whole = multiply_factors(split, [name])
    assert [n.name for n in whole.graph] == [n.name for n in model.graph]
    assert whole.graph.initializers["w"].shape == model.graph.initializers["w"].shape
    (apart,), (together,) = run(split, **feeds), run(whole, **feeds)
    assert np.abs(apart - together).max() <= 1e-4 * max(1.0, float(np.abs(apart).max()))
