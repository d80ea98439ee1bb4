from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.graph import count_macs
from edgeprune.passes.tokens import SETTINGS, TokenStep, reduce_tokens
from edgeprune.passes.x86 import fuse_attention as module
from edgeprune.passes.x86.fuse_attention import attentions, fuse_attention, known_here
from edgeprune.passes.x86.int8_nodes import int8_eligible
from edgeprune.testing.oracle import feeds_for, parse, run
from tests.passes.tokens.vits import Vit

needs_attention = pytest.mark.skipif(not known_here(), reason="this onnxruntime has no attention operator")

TEXT = """
g (float[BATCH, 6, 32] x) => (float[BATCH, 6, 32] y)
<int64[4] heads = {0, 6, 4, 8}, int64[3] joined = {0, 6, 32}, float scale = {0.35}, float half = {2.0}>
{
  q = MatMul(x, wq)
  k = MatMul(x, wk)
  v = MatMul(x, wv)
  q4 = Reshape(q, heads)
  k4 = Reshape(k, heads)
  v4 = Reshape(v, heads)
  qh = Transpose<perm=[0, 2, 1, 3]>(q4)
  KEYS
  vh = Transpose<perm=[0, 2, 1, 3]>(v4)
  SCORES
  p = Softmax<axis=-1>(s)
  o = MatMul(p, vh)
  ot = Transpose<perm=[0, 2, 1, 3]>(o)
  j = Reshape(ot, joined)
  y = MatMul(j, wo)
}
"""
KEYS = "kh = Transpose<perm=[0, 2, 3, 1]>(k4)"
SCALED_AFTER = "r = MatMul(qh, kh)\n s = Mul(r, scale)"
SCALED_BEFORE = "qs = Mul(qh, scale)\n ks = Div(kh, half)\n s = MatMul(qs, ks)"
MASKED = "r = MatMul(qh, kh)\n t = Mul(r, scale)\n s = Add(mask, t)"


def transformer(scores: str = SCALED_AFTER, keys: str = KEYS, batch: str = "1") -> ir.Model:
    text = TEXT.replace("BATCH", batch).replace("KEYS", keys).replace("SCORES", scores)
    mask = {"mask": (1, 4, 6, 6)} if "mask" in text else {}
    return parse(text, **dict.fromkeys(("wq", "wk", "wv", "wo"), (32, 32)), **mask)


@needs_attention
@pytest.mark.parametrize("batch", ["1", "batch"])
@pytest.mark.parametrize(
    ("scores", "keys"),
    [
        (SCALED_AFTER, KEYS),
        (SCALED_BEFORE, KEYS),
        (MASKED, KEYS),
        (SCALED_AFTER, "ku = Transpose<perm=[0, 2, 1, 3]>(k4)\n kh = Transpose<perm=[0, 1, 3, 2]>(ku)"),
        ("s = MatMul(qh, kh)", KEYS),
    ],
    ids=["scaled after", "scaled before", "masked", "transposed twice", "not scaled"],
)
def test_attention_is_one_operator(scores: str, keys: str, batch: str) -> None:
    model = transformer(scores, keys, batch)
    fused = fuse_attention(model)
    assert [n.op_type for n in fused.graph] == ["MatMul"] * 3 + ["Attention", "MatMul"]
    assert fused.graph.opset_imports[""] == 23
    feeds = feeds_for(model, 0)
    (want,), (got,) = run(model, feeds), run(fused, feeds)
    # float32 in another order: the scale is spread over queries and keys.
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


@needs_attention
def test_heads_of_any_sizes_are_one_operator() -> None:
    """Onnxruntime's kernel wants the same number of heads alone: values may be cut to another size than queries."""
    text = TEXT.replace("BATCH", "1").replace("KEYS", KEYS).replace("SCORES", SCALED_AFTER)
    text = text.replace("Reshape(v, heads)", "Reshape(v, values)").replace("{0, 6, 32}", "{0, 6, 12}")
    text = text.replace("float scale", "int64[4] values = {0, 6, 4, 3}, float scale")
    model = parse(text, wq=(32, 32), wk=(32, 32), wv=(32, 12), wo=(12, 32))
    fused = fuse_attention(model)
    assert [n.op_type for n in fused.graph] == ["MatMul"] * 3 + ["Attention", "MatMul"]
    feeds = feeds_for(model, 0)
    (want,), (got,) = run(model, feeds), run(fused, feeds)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


@needs_attention
@pytest.mark.parametrize("batch", [1, 2])
def test_a_number_computed_for_each_key_is_given_a_row_for_each_query(batch: int) -> None:
    model = Vit(tokens=16, batch=batch).model()
    reduced = reduce_tokens(model, [TokenStep("attended0", 4)], SETTINGS["tome"])
    fused = fuse_attention(reduced)
    assert [n.op_type for n in fused.graph].count("Attention") == 2
    assert not any(n.op_type == "Softmax" for n in fused.graph)
    feeds = feeds_for(model, 0)
    (want,), (got,) = run(reduced, feeds), run(fused, feeds)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * float(np.abs(want).max()))


@pytest.mark.parametrize(
    "scores",
    [
        "r = MatMul(qh, kh)\n t = Mul(r, scale)\n s = Add(t, r)",
        "r = MatMul(qh, kh)\n t = Tanh(r)\n s = Mul(t, scale)",
    ],
    ids=["scores read twice", "a function of the scores"],
)
def test_nodes_that_are_not_quite_attention_stay(scores: str) -> None:
    model = transformer(scores)
    assert fuse_attention(model) is model


@needs_attention
def test_no_node_of_a_fused_attention_runs_in_int8() -> None:
    model = transformer()
    (attention,) = attentions(model.graph)
    eligible = int8_eligible(model)
    assert not any(eligible[str(n.name)] is True for n in attention.nodes)
    assert sum(eligible[str(n.name)] is True for n in model.graph if n.op_type == "MatMul") == 4


@needs_attention
def test_an_attention_that_a_plan_has_in_int8_stays() -> None:
    model = transformer()
    (attention,) = attentions(model.graph)
    assert fuse_attention(model, {str(attention.nodes[1].name)}) is model


@needs_attention
def test_names_and_counts_stay() -> None:
    model = transformer()
    fused = fuse_attention(model)
    softmax = next(n for n in model.graph if n.op_type == "Softmax")
    assert next(n for n in fused.graph if n.op_type == "Attention").name == softmax.name
    assert fused.graph.outputs[0].name == "y"
    assert sum(count_macs(fused).values()) <= sum(count_macs(model).values())


def test_an_older_runtime_gets_no_attention_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "known_here", lambda: False)
    model = transformer()
    assert fuse_attention(model) is model
    assert not list(attentions(model.graph))
