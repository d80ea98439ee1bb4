"""A LayerNormalization that was written as single operators."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.passes.tensorrt.fuse_layer_norms import fuse_layer_norms
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.testing.oracle import feeds_for, run
from tests.models import single

BODY = """
  m = ReduceMean<axes=[-1]>(x)
  c = Sub(x, m)
  SQUARE
  v = ReduceMean<axes=[-1]>(s)
  p = Add(v, e)
  d = Sqrt(p)
  QUOTIENT
  AFFINE
  y = MatMul(b, w)
"""
SQUARE, QUOTIENT, AFFINE = "s = Pow(c, two)", "n = Div(c, d)", "a = Mul(n, g) b = Add(a, h)"


def written_out(
    square: str = SQUARE, quotient: str = QUOTIENT, affine: str = AFFINE, opset: int = 13, body: str = BODY
) -> ir.Model:
    text = body.replace("SQUARE", square).replace("QUOTIENT", quotient).replace("AFFINE", affine)
    if opset >= 18:
        text = text.replace("ReduceMean<axes=[-1]>(x)", "ReduceMean(x, last)")
        text = text.replace("ReduceMean<axes=[-1]>(s)", "ReduceMean(s, last)")
    constants = "float two = {2.0}, float e = {0.001}, float one = {1.0}, int64[1] last = {-1}"
    shapes = {"w": (16, 8), **{name: (16,) for name in "gh" if re.search(rf"\b{name}\b", text)}}
    return single(f"net (float[2,5,16] x) => (float[2,5,8] y) <{constants}> {{ {text} }}", opset, **shapes)


def check(model: ir.Model, *operators: str) -> ir.Model:
    fused = fuse_layer_norms(model)
    assert Counter(n.op_type for n in fused.graph) == Counter(operators)
    feeds = feeds_for(model, 0)
    (want,), (got,) = run(model, feeds), run(fused, feeds)
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * float(np.abs(want).max()))
    return fused


@pytest.mark.parametrize("opset", [13, 17, 20])
def test_it_is_one_operator(opset: int) -> None:
    fused = check(written_out(opset=opset), "LayerNormalization", "MatMul")
    assert fused.graph.opset_imports[""] == max(opset, 17)
    (norm,) = [n for n in fused.graph if n.op_type == "LayerNormalization"]
    assert [v.name for v in (*norm.inputs, *norm.outputs)] == ["x", "g", "h", "b"]


@pytest.mark.parametrize(
    ("square", "quotient", "affine"),
    [
        ("s = Mul(c, c)", QUOTIENT, AFFINE),
        ("c2 = Sub(x, m) s = Pow(c2, two)", QUOTIENT, AFFINE),
        (SQUARE, "r = Reciprocal(d) n = Mul(c, r)", AFFINE),
        (SQUARE, "r = Div(one, d) n = Mul(r, c)", AFFINE),
        (SQUARE, QUOTIENT, "a = Mul(g, n) b = Add(h, a)"),
        (SQUARE, QUOTIENT, "b = Mul(n, g)"),
        (SQUARE, QUOTIENT, "b = Add(n, h)"),
        (SQUARE, QUOTIENT, "b = Relu(n)"),
    ],
    ids=["product", "twice", "reciprocal", "one over", "swapped", "no shift", "no scale", "plain"],
)
def test_forms_of_exporters(square: str, quotient: str, affine: str) -> None:
    others = ["Relu"] if "Relu" in affine else []
    check(written_out(square, quotient, affine), "LayerNormalization", "MatMul", *others)


@pytest.mark.parametrize(
    ("square", "quotient", "affine"),
    [
        ("t = Pow(c, two) s = Relu(t)", QUOTIENT, AFFINE),
        ("s = Pow(x, two)", QUOTIENT, AFFINE),
        (SQUARE, "n = Div(x, d)", AFFINE),
        (SQUARE, QUOTIENT, "a = Mul(n, g) a2 = Add(a, h) b = Add(a2, c)"),
    ],
    ids=["not a square", "not centred", "not centred quotient", "read elsewhere"],
)
def test_what_is_something_else_stays(square: str, quotient: str, affine: str) -> None:
    model = written_out(square, quotient, affine)
    assert fuse_layer_norms(model) is model


def test_a_mean_over_channels_stays() -> None:
    model = single(
        """net (float[2,16,4,4] x) => (float[2,16,4,4] y) <float two = {2.0}, float e = {0.001}> {
            m = ReduceMean<axes=[1]>(x) c = Sub(x, m) s = Pow(c, two) v = ReduceMean<axes=[1]>(s)
            p = Add(v, e) d = Sqrt(p) y = Div(c, d)
        }""",
        13,
    )
    assert fuse_layer_norms(model) is model


def test_in_float16_nothing_of_it_stays_in_float32() -> None:
    model = fuse_layer_norms(written_out())
    precision = {str(n.name): "fp16" for n in model.graph}
    ranges = {"x": (-3000.0, 3000.0)}  # the square reaches 1e7
    lowered = lower_tensorrt(model, precision, ranges, target_versions=["10.3"])
    assert [n.op_type for n in lowered.graph] == ["Cast", "LayerNormalization", "MatMul", "Cast"]


def test_gelu_is_of_one_type() -> None:
    """TensorRT fuses the form of the exporters, x (1 + erf(x / sqrt 2)) / 2, if no Cast is inside."""
    model = single(
        """net (float[2,5,16] x) => (float[2,5,16] y) <float r = {1.41421356}, float one = {1.0}, float half = {0.5}> {
            h = MatMul(x, w) d = Div(h, r) t = Erf(d) o = Add(t, one) m = Mul(h, o) g = Mul(m, half) y = MatMul(g, u)
        }""",
        w=(16, 32),
        u=(32, 16),
    )
    lowered = lower_tensorrt(model, {str(n.name): "fp16" for n in model.graph}, {}, target_versions=["10.3"])
    assert [n.op_type for n in lowered.graph] == ["Cast", "MatMul", "Div", "Erf", "Add", "Mul", "Mul", "MatMul", "Cast"]
    int8 = lower_tensorrt(
        model,
        {str(n.name): "int8" if n.op_type == "MatMul" else "fp16" for n in model.graph},
        dict.fromkeys(("x", "g"), (-4.0, 4.0)),
        target_versions=["10.3"],
    )
    quantized = {str(n.inputs[0].name) for n in int8.graph if n.op_type == "QuantizeLinear" and n.inputs[0]}
    assert {name.removesuffix("_fp16") for name in quantized} <= {"x", "x_to_fp16", "g"}
