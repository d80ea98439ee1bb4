import numpy as np

from edgeprune.dependency.solve import analyse
from edgeprune.importance import rank
from edgeprune.passes.canonicalize.pipeline import canonicalize
from tests.small_models import build, normal, two_convolutions

GAMMA = np.array([0.5, -3.0, 0.1, 2.0, 1.0, -0.2], np.float32)


def test_the_scale_of_a_folded_batchnorm_ranks() -> None:
    model = build(
        """g (float[n,3,8,8] x) => (float[n,4,8,8] y) {
            h = Conv<pads=[1,1,1,1]>(x, w1)
            b = BatchNormalization(h, gamma, beta, mean, variance)
            r = Relu(b)
            y = Conv<pads=[1,1,1,1]>(r, w2)
        }""",
        w1=normal(6, 3, 3, 3),
        gamma=GAMMA,
        beta=np.zeros(6),
        mean=np.zeros(6),
        variance=np.array([1.0, 100.0, 1e-2, 4.0, 1.0, 1e-4]),
        w2=normal(4, 6, 3, 3),
    )
    dense = canonicalize(model)
    assert "BatchNormalization" not in {n.op_type for n in dense.graph}
    analysis = analyse(dense)
    (ranking,) = rank("bn-scale", dense, analysis).values()
    np.testing.assert_array_equal(ranking.order, np.argsort(np.abs(GAMMA), kind="stable"))


def test_without_one_the_producing_weights_stand_in() -> None:
    first = normal(4, 3, 3, 3) * np.array([2.0, 0.1, 1.0, 4.0], np.float32)[:, None, None, None]
    model = two_convolutions(first, normal(5, 4, 3, 3))
    (ranking,) = rank("bn-scale", model, analyse(model)).values()
    norms = np.linalg.norm(first.reshape(4, -1), axis=1)
    np.testing.assert_array_equal(ranking.order, np.argsort(norms, kind="stable"))
