"""Query and key dimensions that are removed, made up for by those that stay."""

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.dependency.solve import analyse
from edgeprune.graph import model_io as graph
from edgeprune.passes.prune.prune_channels import prune_channels
from edgeprune.passes.recover import attention_logits
from edgeprune.passes.recover.compensate import compensate
from tests.small_models import build, calibration, normal

HEADS, DIM = 2, 8


def attention(q: np.ndarray, k: np.ndarray) -> ir.Model:
    """Softmax(Q K' / 3) V over 5 tokens of 12 channels; weights of shape (12, 16)."""
    return build(
        """g (float[n,5,12] x) => (float[n,5,12] y) {
            q0 = MatMul(x, wq) q1 = Add(q0, bq) q2 = Reshape(q1, split) q3 = Transpose<perm=[0,2,1,3]>(q2)
            q4 = Mul(q3, third)
            k0 = MatMul(x, wk) k1 = Add(k0, bk) k2 = Reshape(k1, split) k3 = Transpose<perm=[0,2,3,1]>(k2)
            s = MatMul(q4, k3) p = Softmax(s)
            v0 = MatMul(x, wv) v2 = Reshape(v0, split) v3 = Transpose<perm=[0,2,1,3]>(v2)
            o = MatMul(p, v3) o1 = Transpose<perm=[0,2,1,3]>(o) o2 = Reshape(o1, join) y = MatMul(o2, wo)
        }""",
        integers={"split": [0, 5, HEADS, DIM], "join": [0, 5, HEADS * DIM]},
        wq=q,
        bq=normal(16),
        wk=k,
        bk=normal(16, seed=1),
        wv=normal(12, 16),
        wo=normal(16, 12),
        third=np.array(1 / 3),
    )


def cut_half(dense: ir.Model) -> tuple:
    """Keep the even dimensions of queries and keys."""
    analysis = analyse(dense)
    (group,) = [g for g in analysis.groups if g.size == DIM and any(m.value == "wq" for m in g.members)]
    cut = {group.id: np.arange(0, DIM, 2)}
    return analysis, cut, prune_channels(dense, analysis, cut)


def tokens(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 5, 12)).astype(np.float32)


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    return OnnxRuntime(1).load(graph.to_bytes(model)).run({"x": x})[0]


def dependent(seed: int) -> np.ndarray:
    """Weights whose odd dimensions are combinations of the even ones of the same head."""
    rng = np.random.default_rng(seed)
    weight = normal(12, 16, seed=seed).reshape(12, HEADS, DIM)
    for head in range(HEADS):
        weight[:, head, 1::2] = weight[:, head, ::2] @ rng.standard_normal((4, 4)).astype(np.float32)
    return weight.reshape(12, 16)


@pytest.mark.parametrize("exact", [True, False])
def test_dependent_dimensions_are_removed_without_loss(exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_logits, "DAMPING", 1e-9)
    monkeypatch.setattr(attention_logits, "EXACT_DIMENSIONS", 40 if exact else 0)
    dense = attention(3 * dependent(1), dependent(2))
    for name in ("bq", "bk"):
        dense.graph.initializers[name].const_value = ir.tensor(np.zeros(16, np.float32), name=name)
    analysis, cut, pruned = cut_half(dense)
    result = compensate(dense, pruned, analysis, cut, calibration(x=tokens(64)))
    x = tokens(32, seed=9)
    assert np.abs(run(pruned, x) - run(dense, x)).max() > 0.05
    np.testing.assert_allclose(run(result, x), run(dense, x), rtol=0, atol=2e-4)


def test_independent_dimensions_lose_a_little_less() -> None:
    dense = attention(3 * normal(12, 16, seed=1), normal(12, 16, seed=2))
    analysis, cut, pruned = cut_half(dense)
    result = compensate(dense, pruned, analysis, cut, calibration(x=tokens(128)))
    x = tokens(64, seed=9)
    before, after = (float(((run(m, x) - run(dense, x)) ** 2).mean()) for m in (pruned, result))
    assert after < 0.96 * before


def test_a_network_without_attention_is_not_touched() -> None:
    model = build("g (float[n,4] x) => (float[n,3] y) { y = MatMul(x, w) }", w=normal(4, 3))
    assert attention_logits.match_logits(model, model, {}, calibration(x=np.ones((2, 4), np.float32))) == {}
