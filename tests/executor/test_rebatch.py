"""The batch of a network for one sample is opened: two samples together give what they give alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import OnnxRuntime
from edgeprune.executor import RebatchError, open_batch
from tests.small_models import build, normal


def assert_opens(model: ir.Model) -> None:
    opened, axes = open_batch(model)
    alone, both = OnnxRuntime().load(model), OnnxRuntime().load(opened)
    shapes = {str(v.name): [int(str(d)) for d in v.shape or ()] for v in model.graph.inputs}
    rng = np.random.default_rng(0)
    samples = [{n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()} for _ in range(2)]
    found = both.run({n: np.concatenate([s[n] for s in samples]) for n in shapes})
    names = [str(v.name) for v in model.graph.outputs]
    for i, sample in enumerate(samples):
        for name, wanted, together in zip(names, alone.run(sample), found, strict=True):
            np.testing.assert_allclose(np.split(together, 2, axes[name])[i], wanted, rtol=1e-4, atol=1e-5)


ATTENTION = """vit (float[1, 3, 4, 4] x) => (float[1, 5] y) {
  p = Conv <kernel_shape = [2, 2], strides = [2, 2]> (x, patch)
  f = Reshape (p, flat)
  t = Transpose <perm = [0, 2, 1]> (f)
  c = Concat <axis = 1> (token, t)
  e = Add (c, places)
  q0 = MatMul (e, wq)
  q1 = Reshape (q0, heads)
  q = Transpose <perm = [0, 2, 1, 3]> (q1)
  k = Transpose <perm = [0, 2, 3, 1]> (q1)
  s0 = MatMul (q, k)
  s = Softmax <axis = -1> (s0)
  o0 = MatMul (s, q)
  o1 = Transpose <perm = [0, 2, 1, 3]> (o0)
  o = Reshape (o1, whole)
  at = Constant <value = int64 {0}> ()
  first = Gather <axis = 1> (o, at)
  y = Gemm (first, head)
}"""


def test_attention_with_a_class_token() -> None:
    weights = {"patch": normal(8, 3, 2, 2), "token": normal(1, 1, 8), "places": normal(1, 5, 8), "wq": normal(8, 8)}
    integers = {"flat": [1, 8, 4], "heads": [1, 5, 2, 4], "whole": [1, 5, 8]}
    assert_opens(build(ATTENTION, integers=integers, head=normal(8, 5), **weights))


WINDOWS = """swin (float[1, 4, 4, 6] x) => (float[1, 4, 4, 6] y) {
  w0 = Reshape (x, split)
  w1 = Transpose <perm = [0, 1, 3, 2, 4, 5]> (w0)
  w = Reshape (w1, windows)
  m = MatMul (w, weight)
  t = Transpose <perm = [0, 2, 1]> (m)
  a0 = MatMul (m, t)
  a1 = Reshape (a0, apart)
  a2 = Add (a1, mask)
  a = Reshape (a2, again)
  s = Softmax <axis = -1> (a)
  o = MatMul (s, m)
  b0 = Reshape (o, unsplit)
  b1 = Transpose <perm = [0, 1, 3, 2, 4, 5]> (b0)
  y = Reshape (b1, image)
}"""


def test_windows_whose_number_is_part_of_the_batch() -> None:
    integers = {"split": [1, 2, 2, 2, 2, 6], "windows": [4, 4, 6], "apart": [1, 4, 4, 4], "again": [4, 4, 4],
                "unsplit": [1, 2, 2, 2, 2, 6], "image": [1, 4, 4, 6]}  # fmt: skip
    assert_opens(build(WINDOWS, integers=integers, weight=normal(6, 6), mask=normal(1, 4, 4, 4)))


STEPS = """steps (float[1, 5, 8] x) => (float[1, 5, 8] y) {
  t = Transpose <perm = [1, 0, 2]> (x)
  q0 = Reshape (t, heads)
  q = Transpose <perm = [1, 0, 2]> (q0)
  k = Transpose <perm = [1, 2, 0]> (q0)
  s0 = MatMul (q, k)
  s = Softmax <axis = -1> (s0)
  o0 = MatMul (s, q)
  o1 = Transpose <perm = [1, 0, 2]> (o0)
  o2 = Reshape (o1, rows)
  g = Gemm (o2, weight)
  r = Reshape (g, back)
  y = Add (x, r)
}"""


def test_time_steps_before_the_samples_and_a_reshape_for_a_transpose() -> None:
    integers = {"heads": [5, 2, 4], "rows": [5, 8], "back": [1, 5, 8]}
    assert_opens(build(STEPS, integers=integers, weight=normal(8, 8)))


def test_sizes_of_a_resize_and_of_an_expand() -> None:
    text = """g (float[1, 2, 3, 3] x) => (float[1, 2, 6, 6] y) {
      r = Resize <mode = "nearest"> (x, , , sizes)
      p = GlobalAveragePool (r)
      e = Expand (p, shape)
      y = Add (r, e)
    }"""
    assert_opens(build(text, integers={"sizes": [1, 2, 6, 6], "shape": [1, 2, 6, 6]}))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("y = Softmax <axis = 0> (x)", "works along the axis of the samples"),
        ("m = ReduceMean <axes = [0], keepdims = 1> (x)\ny = Sub (x, m)", "reduces the axis of the samples"),
        ("t = Transpose <perm = [1, 0]> (x)\nq = MatMul (t, x)\ny = MatMul (x, q)", "sums over samples"),
    ],
)
def test_what_mixes_samples_is_refused(body: str, why: str) -> None:
    model = build(f"g (float[1, 4] x) => (float[1, 4] y) {{ {body} }}")
    with pytest.raises(RebatchError, match=why):
        open_batch(model)


def test_an_input_without_a_batch_of_one_is_refused() -> None:
    with pytest.raises(RebatchError, match="the input 'x' has no batch of 1"):
        open_batch(build("g (float[4, 4] x) => (float[4, 4] y) { y = Relu (x) }"))
