from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.x86.quantize_x86 import quantize_x86
from edgeprune.testing.oracle import feeds_for
from tests.passes.x86.test_quantize_x86 import fused_ops, model_and_ranges, relative_error

MLP = """
g (float[N, 6, 16] x) => (float[N, 6, 16] y) <float half = {0.5}, float one = {1.0}> {
  h = MatMul(x, w1)
  a = Add(b1, h)
  e = Erf(a)
  f = Add(e, one)
  g = Mul(a, f)
  q = Mul(g, half)
  p = MatMul(q, w2)
  s = Add(p, b2)
  y = Add(s, x)
}
"""
SIZES = {"w1": (16, 32), "b1": (32,), "w2": (32, 16), "b2": (16,)}


def quantized(text: str, **sizes: tuple[int, ...]) -> tuple[ir.Model, ir.Model]:
    model, ranges = model_and_ranges(text, **{**SIZES, **sizes})
    return model, quantize_x86(model, [str(n.name) for n in model.graph if n.op_type == "MatMul"], ranges)


def reshapes(model: ir.Model) -> int:
    return sum(n.op_type == "Reshape" for n in model.graph)


@pytest.mark.parametrize("batch", ["2", "batch"])
def test_a_feed_forward_block_is_flattened_once_and_reshaped_back_once(batch: str, tmp_path) -> None:
    model, changed = quantized(MLP.replace("N", batch))
    assert reshapes(changed) == 2
    # Two layers of 8 bits stay within a few per cent of the largest output.
    assert relative_error(model, changed) < 0.03
    ops = fused_ops(changed, tmp_path)
    assert ops.count("QGemm") == 2
    assert [tuple(map(str, v.shape)) for v in changed.graph.outputs] == [(batch, "6", "16")]


def test_int8_functions_are_pointwise_too() -> None:
    text = """
    g (float[2, 6, 16] x) => (float[2, 6, 16] y) {
      h = MatMul(x, w1)
      a = Add(h, b1)
      e = Sigmoid(a)
      q = Mul(a, e)
      p = MatMul(q, w2)
      s = Add(p, b2)
      y = Add(s, x)
    }
    """
    model, ranges = model_and_ranges(text, **SIZES)
    changed = quantize_x86(model, [str(n.name) for n in model.graph if n.op_type != "Add"], ranges)
    assert reshapes(changed) == 2
    assert relative_error(model, changed) < 0.04  # two layers and two functions of 8 bits


@pytest.mark.parametrize(
    ("change", "sizes"),
    [
        (("e = Erf(a)", "e = Softmax<axis=1>(a)"), {}),
        (("e = Erf(a)", "e = Add(a, table)"), {"table": (6, 32)}),
        (("y = Add(s, x)", "z = ReduceSum<keepdims=1>(q)\n  t = Add(s, x)\n  y = Add(t, z)"), {}),
        (("=> (float[N, 6, 16] y)", "=> (float[N, 6, 16] y, float[N, 6, 32] q)"), {}),
        (("p = MatMul(q, w2)", "k = MatMul(q, w3)\n  o = Erf(k)\n  p = MatMul(q, w2)"), {"w3": (32, 8)}),
    ],
    ids=["along the rows", "differs from row to row", "read in its layout", "an output", "a MatMul without a bias"],
)
def test_nodes_that_need_the_layout_keep_it(change: tuple[str, str], sizes: dict[str, tuple[int, ...]]) -> None:
    text = MLP.replace(*change).replace("N", "2")
    if "o = Erf" in text:
        text = text.replace("float[2, 6, 16] y)", "float[2, 6, 16] y, float[2, 6, 8] o)")
    model, changed = quantized(text, **sizes)
    assert reshapes(changed) == 4
    feeds = feeds_for(model, 0)
    for want, got in zip(OnnxRuntime().load(model).run(feeds), OnnxRuntime().load(changed).run(feeds), strict=True):
        assert float(np.abs(want - got).max() / np.abs(want).max()) < 0.04  # two layers of 8 bits
