import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.testing.oracle import verify
from tests.models import single

MASK = "bool[5,5] mask = {" + ",".join("1" if c <= r else "0" for r in range(5) for c in range(5)) + "}"


@pytest.mark.parametrize(
    ("heads", "groups"),
    [
        ("q_num_heads=4, kv_num_heads=4", [4, 4, 6]),  # dimensions of values, heads, dimensions of queries and keys
        ("q_num_heads=4, kv_num_heads=2", [2, 2, 4, 6]),  # key heads, query heads of each, ...
    ],
)
@pytest.mark.parametrize("mask", ["", ", mask", ", bias"])
def test_heads_and_dimensions_of_packed_attention(heads: str, groups: list[int], mask: str) -> None:
    kv = 4 if "kv_num_heads=4" in heads else 2
    model = single(
        f"""g (float[1,5,8] x) => (float[1,5,3] y) <{MASK}> {{
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
            a = Attention<{heads}>(q, k, v{mask}) y = MatMul(a, wo) }}""",
        23,
        wq=(8, 24),
        wk=(8, 6 * kv),
        wv=(8, 4 * kv),
        wo=(16, 3),
        **({"bias": (1, 4, 5, 5)} if mask == ", bias" else {}),
    )
    assert sorted(g.size for g in verify(model).groups) == groups


def test_the_scale_of_attention_stays_that_of_the_whole_head() -> None:
    model = single(
        """g (float[1,5,8] x) => (float[1,2,5,3] y) <int64[4] s = {1, 5, 2, 6}> {
            q0 = MatMul(x, wq) q1 = Reshape(q0, s) q = Transpose<perm=[0,2,1,3]>(q1)
            k0 = MatMul(x, wk) k1 = Reshape(k0, s) k = Transpose<perm=[0,2,1,3]>(k1)
            y0 = Attention(q, k, k) y = MatMul(y0, wo) }""",
        23,
        wq=(8, 12),
        wk=(8, 12),
        wo=(6, 3),
    )
    analysis = verify(model)
    (group,) = [g for g in analysis.groups if g.size == 6]
    (node,) = [n for n in prune_channels(model, analysis, {group.id: np.arange(2)}).graph if n.op_type == "Attention"]
    assert node.attributes["scale"].as_float() == pytest.approx(6**-0.5)


def test_dimensions_of_cached_keys_stay() -> None:
    model = single(
        """g (float[1,5,8] x, float[1,2,7,3] pk, float[1,2,7,4] pv) => (float[1,5,3] y, float[1,2,12,3] nk) {
            q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv)
            a, nk, nv = Attention<q_num_heads=4, kv_num_heads=2>(q, k, v, , pk, pv) y = MatMul(a, wo) }""",
        23,
        wq=(8, 12),
        wk=(8, 6),
        wv=(8, 8),
        wo=(16, 3),
    )
    assert [g.size for g in verify(model).groups] == [2]  # query heads of each key head


@pytest.mark.parametrize(
    ("settings", "pairs"),
    [("", 3), ("interleaved=1, ", 3), ("rotary_embedding_dim=4, ", 0), ("rotary_embedding_dim=6, ", 3)],
)
def test_rotary_embeddings_turn_pairs(settings: str, pairs: int) -> None:
    half = 2 if "=4" in settings else 3
    model = single(
        f"""g (float[1,5,8] x) => (float[1,5,3] y) <int64[1,5] at = {{0, 1, 2, 3, 4}}> {{
            q0 = MatMul(x, wq) k0 = MatMul(x, wk) v = MatMul(x, wv)
            q = RotaryEmbedding<{settings}num_heads=2>(q0, c, s, at)
            k = RotaryEmbedding<{settings}num_heads=2>(k0, c, s, at)
            a = Attention<q_num_heads=2, kv_num_heads=2>(q, k, v) y = MatMul(a, wo) }}""",
        23,
        wq=(8, 12),
        wk=(8, 12),
        wv=(8, 8),
        wo=(8, 3),
        c=(9, half),
        s=(9, half),
    )
    assert sorted(g.size for g in verify(model).groups) == sorted([2, 4] + ([pairs] if pairs else []))


def test_heads_of_a_rotary_embedding_by_axis() -> None:
    model = single(
        """g (float[1,5,8] x) => (float[1,2,5,5] y) <int64[4] s = {1, 5, 2, 6}> {
            q0 = MatMul(x, wq) q1 = Reshape(q0, s) q2 = Transpose<perm=[0,2,1,3]>(q1) q = RotaryEmbedding(q2, c, n)
            k0 = MatMul(x, wk) k1 = Reshape(k0, s) k2 = Transpose<perm=[0,2,1,3]>(k1) k3 = RotaryEmbedding(k2, c, n)
            k = Transpose<perm=[0,1,3,2]>(k3) y = MatMul(q, k) }""",
        23,
        wq=(8, 12),
        wk=(8, 12),
        c=(1, 5, 3),
        n=(1, 5, 3),
    )
    assert [g.size for g in verify(model).groups] == [3]


def test_unequal_heads_are_refused_with_a_reason() -> None:
    model = single(
        """g (float[1,5,8] x) => (float[1,5,3] y) {
            q = MatMul(x, wq) k = MatMul(x, wk) a = Attention<q_num_heads=3, kv_num_heads=2>(q, k, k) y = MatMul(a, wo)
        }""",
        23,
        wq=(8, 12),
        wk=(8, 8),
        wo=(12, 3),
    )
    assert "3 query heads do not go with 2 key heads" in str(analyse(model).why("wq", 1)[-1])
