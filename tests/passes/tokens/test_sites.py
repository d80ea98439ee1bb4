"""Where tokens may leave, and the reasons where they may not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.graph import Refused, find_value
from edgeprune.passes.tokens import SETTINGS, TokenStep, reduce_tokens, token_sites
from edgeprune.passes.tokens.sites import flow_from
from edgeprune.testing.oracle import parse, run
from tests.passes.tokens.vits import Vit

WEIGHTS = {"w": (8, 8), "wk": (8, 8), "wv": (8, 8), "wo": (8, 8), "head": (8, 8), "bias": (12, 12)}

ATTENTION = """
q{k} = MatMul(x{k}, w) k{k} = MatMul(x{k}, wk) v{k} = MatMul(x{k}, wv)
kt{k} = Transpose<perm = [0, 2, 1]>(k{k}) s{k} = MatMul(q{k}, kt{k}) {scores}
p{k} = Softmax<axis = -1>(r{k}) y{k} = MatMul(p{k}, v{k}) o{k} = MatMul(y{k}, wo) x{next} = Add(x{k}, o{k})
"""


def graph(end: str, scores: str = "r{k} = Identity(s{k})", outputs: str = "float[N, 8] out", batch: str = "N") -> str:
    """Two attentions of one head over 12 tokens, and what is behind them; ``x2`` are the last tokens."""
    body = "".join(ATTENTION.format(k=k, next=k + 1, scores=scores.format(k=k)) for k in range(2))
    return f"g (float[{batch},12,8] x0) => ({outputs}) {{ {body} {end} }}"


CLASS = "<int64 zero = {0}> g"
TAKEN = "c = Gather<axis = 1>(x2, zero) out = MatMul(c, head)"


def reason(text: str, constants: str = "<int64 zero = {0}>") -> str:
    head, _, rest = text.partition("=> (")
    outputs, _, body = rest.partition(") {")
    found = token_sites(parse(f"{head}=> ({outputs}) {constants} {{{body}", **WEIGHTS))
    assert isinstance(found, Refused)
    return str(found)


def test_sites_are_the_sums_with_attention_behind_them() -> None:
    sites = token_sites(Vit(depth=3, end="distilled").model())
    assert not isinstance(sites, Refused)
    assert [s.value for s in sites] == ["attended0", "block0", "attended1", "block1", "attended2"]
    assert [s.attentions for s in sites] == [2, 2, 1, 1, 0]
    assert {(s.tokens, s.protected) for s in sites} == {(13, 2)}


def test_a_mean_over_tokens_needs_no_class_token() -> None:
    sites = token_sites(Vit(end="mean").model())
    assert sites
    assert {s.protected for s in sites} == {0}


CONSTANTS = "<int64 zero = {0}, int64 last = {11}, int64[4] grid = {0, 3, 4, 8}, int64[1] over = {1}, int64 one = {1}>"


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("c = Gather<axis = 1>(x2, last) out = MatMul(c, head)", "tokens are chosen by position (Gather"),
        ("out = MatMul(x2, head)", "the tokens themselves are an output of the model"),
        ("g = Reshape(x2, grid) c = ReduceMax<axes = [1, 2], keepdims = 0>(g) out = Identity(c)", "a grid"),
        ("c = ReduceSum<keepdims = 0>(x2, over) out = MatMul(c, head)", "sums over the tokens without a Softmax"),
        ("c = ReduceMax<axes = [1], keepdims = 0>(x2) out = MatMul(c, head)", "ReduceMax over this axis"),
        ("m = CumSum(x2, one) c = Gather<axis = 1>(m, zero) out = Identity(c)", "CumSum runs along this axis"),
        ("z = Concat<axis = 1>(x2, x2) c = Gather<axis = 1>(z, zero) out = Identity(c)", "joined with others"),
        ("z = Add(x2, x0) c = Gather<axis = 1>(z, zero) out = Identity(c)", "tokens from before are read again"),
        ("t = Transpose<perm = [1, 0, 2]>(x2) c = ReduceSum<keepdims = 0>(t, two) out = Transpose(c)", "an output"),
    ],
)
@pytest.mark.parametrize("batch", ["N", "1", "2"])
def test_what_needs_every_token_gets_all_of_them(end: str, expected: str, batch: str) -> None:
    model = end_of(end, batch)
    sites = token_sites(model)
    assert not isinstance(sites, Refused)
    assert sites[0].value == "x1"
    flow = flow_from(model.graph, find_value(model.graph, "x1"))
    assert not isinstance(flow, Refused)
    assert expected in str(flow.reasons[0])
    x = np.random.default_rng(0).standard_normal((1 if batch == "1" else 2, 12, 8)).astype(np.float32)
    x[:, 1::2] = x[:, ::2]
    for name, leave in (("tome", 6), ("saint", 4), ("bavit", 3)):
        made = reduce_tokens(model, [TokenStep("x1", leave)], SETTINGS[name])
        dense, found = (run(m, {"x0": x})[0] for m in (model, made))
        if name == "tome":  # tokens that are the same
            np.testing.assert_allclose(found, dense, atol=1e-5 * float(np.abs(dense).max()))
        assert found.shape == dense.shape


def end_of(end: str, batch: str, scores: str = "r{k} = Identity(s{k})") -> ir.Model:
    """The network of `graph`, with the constants that ends may need."""
    outputs = "float out" if "Transpose" in end else f"float[{batch}, 12, 8] out" if end[:3] == "out" else ""
    text = graph(end, scores, outputs or f"float[{batch}, 8] out", batch)
    constants = CONSTANTS[:-1] + ", int64[1] two = {2}>"
    head, _, body = text.partition(") {")
    return parse(f"{head}) {constants} {{{body}", **WEIGHTS)


@pytest.mark.parametrize(
    ("scores", "batch", "expected"),
    [
        ("r{k} = Add(s{k}, bias)", "N", "a constant has a number for each token (bias at Add"),
        ("r{k} = CumSum(s{k}, one)", "1", "CumSum runs along this axis"),
    ],
)
def test_scores_that_need_every_token_are_refused_with_their_reason(scores: str, batch: str, expected: str) -> None:
    assert expected in str(token_sites(end_of(TAKEN, batch, scores)))


def test_attention_over_windows_is_refused() -> None:
    text = """g (float[1,16,8] x0) => (float[1,8] out)
    <int64[4] windows = {4, 4, 8, 1}, int64[3] rows = {4, 4, 8}, int64[3] whole = {1, 16, 8}> {
    e = MatMul(x0, w) x = Add(x0, e) r = Reshape(x, rows) k = MatMul(r, wk) kt = Transpose<perm = [0, 2, 1]>(k)
    s = MatMul(r, kt) p = Softmax<axis = -1>(s) y = MatMul(p, r) z = Reshape(y, whole) x2 = Add(x, z)
    out = ReduceMean<axes = [1], keepdims = 0>(x2) }"""
    found = token_sites(parse(text, **WEIGHTS))
    assert "the tokens are laid out as a grid or as windows" in str(found)


def test_a_model_without_attention_says_so() -> None:
    found = token_sites(parse("g (float[1,12,8] x) => (float[1,12,8] y) { y = Relu(x) }"))
    assert str(found) == "the model has no attention"
