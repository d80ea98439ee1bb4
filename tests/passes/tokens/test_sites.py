"""Where tokens may leave, and the reasons where they may not."""

from __future__ import annotations

import pytest

from edgeprune.graph import Refused
from edgeprune.passes.tokens import token_sites
from edgeprune.testing.oracle import parse
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


@pytest.mark.parametrize(
    ("end", "scores", "expected"),
    [
        (TAKEN, "r{k} = Add(s{k}, bias)", "a constant has a number for each token (bias at Add"),
        ("c = Gather<axis = 1>(x2, last) out = MatMul(c, head)", "", "tokens are chosen by position (Gather"),
        ("out = MatMul(x2, head)", "", "the tokens themselves are an output of the model"),
        ("g = Reshape(x2, grid) c = ReduceMax<axes = [1, 2], keepdims = 0>(g) out = Identity(c)", "", "a grid"),
        ("c = ReduceSum<keepdims = 0>(x2, over) out = MatMul(c, head)", "", "sums over the tokens without a Softmax"),
        ("c = ReduceMax<axes = [1], keepdims = 0>(x2) out = MatMul(c, head)", "", "ReduceMax over this axis"),
        ("m = CumSum(x2, one) c = Gather<axis = 1>(m, zero) out = Identity(c)", "", "CumSum runs along this axis"),
        ("z = Concat<axis = 1>(x2, x2) c = Gather<axis = 1>(z, zero) out = Identity(c)", "", "joined with others"),
        ("z = Add(x2, x0) c = Gather<axis = 1>(z, zero) out = Identity(c)", "", "tokens from before are read again"),
    ],
)
def test_what_needs_every_token_is_refused_with_its_reason(end: str, scores: str, expected: str) -> None:
    constants = (
        "<int64 zero = {0}, int64 last = {11}, int64[4] grid = {0, 3, 4, 8}, int64[1] over = {1}, int64 one = {1}>"
    )
    outputs = "float[N, 12, 8] out" if end.startswith("out") else "float[N, 8] out"
    assert expected in reason(graph(end, scores or "r{k} = Identity(s{k})", outputs), constants)


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
