import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.errors import CalibrationError
from edgeprune.importance import rank
from tests.small_models import build, calibration


def model():
    """Hidden channels: x0, 10 + x1, 3 * x2 and a constant; the reader's columns have norms 4, 1, 1, 9."""
    return build(
        """g (float[n, 3] x) => (float[n, 2] y) {
            h = Gemm(x, w1, b)
            y = Gemm(h, w2)
        }""",
        w1=np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 3, 0]]),
        b=np.array([0, 10, 0, 5]),
        w2=np.array([[4, 0], [1, 0], [0, 1], [0, 9]]),
    )


X = np.random.default_rng(0).choice([-1.0, 1.0], (512, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "scores"),
    [("vbp", [1, 1, 9, 0]), ("flap", [16, 1, 9, 0]), ("wanda", [4, 101**0.5, 3, 45])],
)
def test_scores_are_the_papers(name: str, scores: list[float]) -> None:
    graph = model()
    (ranking,) = rank(name, graph, analyse(graph), calibration(x=X)).values()
    increments = np.empty(4)
    increments[ranking.order] = np.diff(ranking.loss)
    np.testing.assert_allclose(increments, np.array(scores) / np.sum(scores), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["wanda", "flap", "vbp", "obs"])
def test_data_is_asked_for(name: str) -> None:
    graph = model()
    with pytest.raises(CalibrationError, match="needs calibration data"):
        rank(name, graph, analyse(graph))


def test_activations_that_are_not_finite_are_named() -> None:
    graph = model()
    graph.graph.initializers["w1"].const_value.numpy()[0, 0] = 3e38
    with pytest.raises(CalibrationError, match="activation 'h' is NaN or infinite"):
        rank("flap", graph, analyse(graph), calibration(x=np.full((4, 3), 3.0, np.float32)))
