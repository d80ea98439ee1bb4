"""Which nodes may run in INT8 on x86, and which stay in float."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.costmodel.blocks import partition
from edgeprune.latency.formats import int8_nodes
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.testing.oracle import parse

DETECTOR = """
head (float[1, 8, 6, 6] x) => (float[1, 8, 36] y)
<int64[4] s1 = {1, 16, 4, 36}, int64[3] s2 = {1, 4, 36}, int64[3] s3 = {1, 4, 36}> {
  c = Conv(x, w1)
  a = Sigmoid(c)
  m = Mul(a, c)
  boxes = Conv(m, w2)
  flat = Reshape(boxes, s1)
  p = Softmax<axis=1>(flat)
  dfl = Conv(p, w3)
  d = Reshape(dfl, s2)
  scores = Conv(m, w4)
  t = Reshape(scores, s3)
  q = Sigmoid(t)
  y = Concat<axis=1>(d, q)
}
"""


def detector() -> ir.Model:
    return parse(DETECTOR, w1=(8, 8, 1, 1), w2=(64, 8, 1, 1), w3=(1, 16, 1, 1), w4=(4, 8, 1, 1))


def reasons(model: ir.Model) -> dict[str, str]:
    """First output of every node -> why it stays float, empty where it need not."""
    eligible = int8_eligible(model)
    return {str(n.outputs[0].name): "" if (e := eligible[str(n.name)]) else str(e) for n in model.graph}


def test_nodes_that_decode_boxes_and_scores_stay_float() -> None:
    found = reasons(detector())
    assert {v for v, why in found.items() if not why} == {"c", "a", "m", "boxes", "scores"}
    assert "probabilities" in found["dfl"]
    assert all("last weighted" in found[v] for v in ("flat", "d", "t", "q", "y"))


def test_an_activation_right_behind_the_last_layer_may_run_in_int8() -> None:
    text = "g (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) { c = Conv(x, w) y = Relu(c) }"
    assert set(reasons(parse(text, w=(8, 8, 1, 1))).values()) == {""}


def test_attention_reads_probabilities_in_float() -> None:
    text = """
    g (float[1, 4, 8] x) => (float[1, 4, 8] y) {
      q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
      kt = Transpose<perm=[0, 2, 1]>(k)
      s = MatMul(q, kt)
      p = Softmax(s)
      o = MatMul(p, v)
      y = MatMul(o, wo)
    }
    """
    found = reasons(parse(text, wq=(8, 8), wk=(8, 8), wv=(8, 8), wo=(8, 8)))
    assert "probabilities" in found["o"]
    assert {v for v, why in found.items() if not why} == {"q", "k", "v", "kt", "s", "y"}


def test_sums_that_a_normalization_reads_stay_float() -> None:
    text = """
    g (float[1, 4, 8] x) => (float[1, 4, 8] y) {
      a = MatMul(x, w)
      s = Add(a, x)
      n = LayerNormalization(s, scale)
      y = MatMul(n, w2)
    }
    """
    found = reasons(parse(text, w=(8, 8), scale=(8,), w2=(8, 8)))
    assert "normalization" in found["s"]
    assert found["a"] == found["y"] == ""


def test_in_a_block_with_gelu_only_the_matmul_runs_in_int8() -> None:
    text = """
    g (float[4, 8] x) => (float[4, 8] y) {
      h = MatMul(x, w)
      d = Div(h, root)
      e = Erf(d)
      o = Add(e, one)
      m = Mul(h, o)
      y = MatMul(m, w2)
    }
    """
    model = parse(text, w=(8, 16), w2=(16, 8), root=(), one=())
    names = {str(n.name): str(n.outputs[0].name) for n in model.graph}
    forms = int8_nodes(model, partition(model))
    assert [{names[n] for n in f["int8"]} for f in forms if "int8" in f] == [{"h"}, {"y"}]


def test_what_computes_positions_stays_float() -> None:
    model = parse(
        """
        g (float[1, 16, 8, 8] x, float[1, 2, 8, 8] at) => (float[1, 16, 8, 8] y) {
          c = Conv<pads=[1, 1, 1, 1]>(x, w)
          step = Conv<pads=[1, 1, 1, 1]>(c, v)
          moved = Add(at, step)
          grid = Transpose<perm=[0, 2, 3, 1]>(moved)
          s = GridSample(c, grid)
          y = Conv<pads=[1, 1, 1, 1]>(s, w)
        }""",
        w=(16, 16, 3, 3),
        v=(2, 16, 3, 3),
    )
    found = int8_eligible(model)
    written = {str(n.outputs[0].name): found[str(n.name)] for n in model.graph}
    assert written["c"]
    assert written["y"]
    for name in ("step", "moved", "grid"):
        assert "no activation" in str(written[name])
