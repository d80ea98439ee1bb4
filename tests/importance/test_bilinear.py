import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from tests.small_models import build, calibration, normal

QUERY = np.array([1.0, 4.0, 2.0, 1.0, 1.0, 4.0, 2.0, 1.0])
KEY = np.array([3.0, 1.0, 2.0, 0.1, 3.0, 1.0, 2.0, 0.1])


def attention():
    """Two heads of four dimensions; queries and keys of each dimension are scaled by QUERY and KEY."""
    return build(
        """g (float[n, 5, 8] x) => (float[n, 2, 5, 5] y) {
            q0 = MatMul(x, wq)
            q1 = Reshape(q0, split)
            q = Transpose<perm = [0, 2, 1, 3]>(q1)
            k0 = MatMul(x, wk)
            k1 = Reshape(k0, split)
            k = Transpose<perm = [0, 2, 3, 1]>(k1)
            [logits] s = MatMul(q, k)
            y = Softmax(s)
        }""",
        wq=np.eye(8) * QUERY,
        wk=np.eye(8) * KEY,
        integers={"split": [0, 0, 2, 4]},
    )


@pytest.mark.parametrize("criterion", ["obs", "wanda"])
def test_query_key_dimensions_are_ranked_by_the_energy_of_the_logits(criterion: str) -> None:
    model = attention()
    analysis = analyse(model)
    x = np.random.default_rng(0).choice([-1.0, 1.0], (64, 5, 8)).astype(np.float32)
    groups = [g for g in analysis.groups if g.size == 4]
    assert groups, [(g.id, g.size) for g in analysis.groups]
    ranking = rank(criterion, model, analysis, calibration(x=x))[groups[0].id]
    scores = (QUERY**2 * KEY**2)[:4]
    assert ranking.order.tolist() == np.argsort(scores, kind="stable").tolist()
    np.testing.assert_allclose(np.diff(ranking.loss), np.sort(scores) / scores.sum(), rtol=1e-5)


def test_without_groups_there_is_no_ranking() -> None:
    model = build("g (float[n, 3] x) => (float[n, 4] y) { y = Gemm(x, w) }", w=normal(3, 4))
    assert rank("obs", model, analyse(model), calibration(x=np.ones((4, 3), np.float32))) == {}
