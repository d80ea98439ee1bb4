"""Experts as units: they go with their column of the router, and the others' probabilities add up to one again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from edgeprune.dependency.solve import Analysis, analyse
from edgeprune.errors import EdgepruneError
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.testing.oracle import feeds_for, parse, run, verify
from tests.experts import EXPERTS, HIDDEN, mixture, without


def sizes(analysis: Analysis) -> list[int]:
    """The sizes of all groups, ascending."""
    return sorted(g.size for g in analysis.groups)


FORMS = pytest.mark.parametrize(("sparse", "einsum"), list(itertools.product([False, True], repeat=2)))


@FORMS
def test_experts_stay_unless_asked_for(sparse: bool, einsum: bool) -> None:
    model = mixture(sparse=sparse, einsum=einsum)
    assert HIDDEN in sizes(verify(model))
    assert EXPERTS not in sizes(analyse(model))


@FORMS
@pytest.mark.parametrize("gone", [[0], [2, 3]])
def test_a_cut_mixture_is_the_one_that_never_chooses_these_experts(sparse: bool, einsum: bool, gone: list[int]) -> None:
    model = mixture(sparse=sparse, einsum=einsum)
    analysis = analyse(model, allow_statistic=True)
    group = next(g for g in analysis.groups if g.size == EXPERTS)
    touched = {m.value for m in group.members}
    assert touched >= {"wr", "rb", "w1", "w2"} | (set() if einsum else {"b1", "b2"})
    pruned = prune_channels(model, analysis, {group.id: np.setdiff1d(np.arange(EXPERTS), gone)})
    assert next(iter(pruned.graph.initializers["w1"].shape or ())) == EXPERTS - len(gone)
    for seed in range(3):
        feeds = feeds_for(model, seed)
        np.testing.assert_allclose(run(pruned, feeds)[0], run(without(model, gone), feeds)[0], atol=1e-5)


def test_no_fewer_experts_than_each_token_takes() -> None:
    model = mixture()
    analysis = analyse(model, allow_statistic=True)
    group = next(g for g in analysis.groups if g.size == EXPERTS)
    with pytest.raises(EdgepruneError, match="TopK takes 2 experts, and 1 would be left: remove fewer"):
        prune_channels(model, analysis, {group.id: np.array([1])})


@pytest.mark.parametrize(
    "body",
    [
        "v, i = TopK<axis = -1>(p, k) c = Cast<to = 1>(i) z = MatMul(v, w) o = Add(z, c)",
        "v, i = TopK<axis = -1>(p, k) m = ScatterElements<axis = -1>(zeros, i, v) o = MatMul(m, w4)",
        "v, i = TopK<axis = -1>(p, k) m = ScatterElements<axis = -1>(zeros, i, v) q = Mul(l, m) o = MatMul(q, w4)",
        "v, i = TopK<axis = -1>(l, k) o = MatMul(v, w)",
        "v, i = TopK<axis = -1>(p, k) f = Flatten<axis = 2>(i) j = Squeeze(f) o = Gather(w4, j)",
    ],
)
def test_numbers_of_experts_that_mean_more_than_a_mask_keep_all_experts(body: str) -> None:
    zeros = ",".join("0" * 12)
    text = f"""g (float[1,3,8] x) => (float[a,b,c] out) <int64[1] k = {{2}}, float[1,3,4] zeros = {{{zeros}}}> {{
    l = MatMul(x, wr) p = Softmax<axis = -1>(l) {body} out = Identity(o) }}"""
    model = parse(text, wr=(8, 4), **({"w": (2, 2)} if " w)" in body else {"w4": (4, 5)}))
    analysis = analyse(model, allow_statistic=True)
    assert not any(m.value == "wr" for g in analysis.groups for m in g.members)


def test_weights_that_are_gathered_by_expert_lose_their_hidden_width() -> None:
    text = """g (float[3,1,8] x) => (float[3,1,5] out) <int64[1] k = {1}, int64[1] one = {1}> {
    l = MatMul(x, wr) p = Softmax<axis = -1>(l) v, i = TopK<axis = -1>(p, k) f = Flatten<axis = 1>(i)
    j = Squeeze(f, one) a = Gather<axis = 0>(w1, j) b = Gather<axis = 0>(w2, j)
    h1 = MatMul(x, a) h = Relu(h1) y = MatMul(h, b) z = Mul(y, v) out = MatMul(z, wo) }"""
    model = parse(text, wr=(8, 4), w1=(4, 8, 6), w2=(4, 6, 7), wo=(7, 5))
    assert sizes(verify(model)) == [6, 7]
