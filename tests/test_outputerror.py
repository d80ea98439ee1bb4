import numpy as np
import pytest

from edgeprune.outputerror import WORST, Probe, output_error
from edgeprune.testing import parse
from tests.small_models import calibration


def scores(seed: int, rows: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 10)).astype(np.float32)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_equal_outputs_have_no_error() -> None:
    boxes = np.random.default_rng(0).uniform(0, 640, (2, 14, 30)).astype(np.float32)
    assert output_error([scores(0), boxes], [scores(0), boxes]) == 0


def test_class_scores_are_compared_as_distributions() -> None:
    a, b = scores(0), scores(0) + 7.0  # the softmax does not see a shift
    assert output_error([a], [b]) == pytest.approx(0, abs=1e-6)
    p, q = softmax(scores(0).astype(np.float64)), softmax(scores(1).astype(np.float64))
    divergence = float((p * np.log(p / q)).sum(axis=1).mean())
    assert output_error([scores(0)], [scores(1)]) == pytest.approx(divergence, rel=1e-5)


def test_probabilities_are_not_put_through_a_softmax_again() -> None:
    p, q = softmax(scores(0).astype(np.float64)), softmax(scores(1).astype(np.float64))
    divergence = float((p * np.log(p / q)).sum(axis=1).mean())
    assert output_error([p], [q]) == pytest.approx(divergence, rel=1e-4)


def test_boxes_do_not_drown_scores() -> None:
    rng = np.random.default_rng(0)
    out = np.concatenate([rng.uniform(0, 640, (1, 4, 200)), rng.uniform(0, 1, (1, 8, 200))], axis=1)
    noisy = out.copy()
    noisy[:, 4:] += 0.3 * noisy[:, 4:].std() * rng.standard_normal(noisy[:, 4:].shape)
    # 9% of the variance on 8 of 12 channels
    assert output_error([out], [noisy]) == pytest.approx(0.09 * 8 / 12, rel=0.15)


@pytest.mark.parametrize("broken", [np.full((50, 10), np.nan, np.float32), np.full((50, 10), np.inf, np.float32)])
def test_what_is_not_finite_is_the_worst(broken: np.ndarray) -> None:
    assert output_error([scores(0)], [broken]) == WORST
    assert output_error([scores(0)[:, :, None]], [broken[:, :, None]]) == WORST


def test_a_size_that_changed_is_the_worst() -> None:
    assert output_error([np.zeros((1, 5, 6))], [np.zeros((1, 4, 6))]) == WORST


def test_a_probe_scores_a_model_against_the_original() -> None:
    text = "g (float[n, 6] x) => (float[n, 4] y) { h = MatMul(x, w) y = Add(h, b) }"
    model, other = parse(text, w=(6, 4), b=(4,)), parse(text, seed=1, w=(6, 4), b=(4,))
    data = calibration(x=np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32))
    probe = Probe(model, data, 20, 1)
    assert probe.error(model) == 0
    assert probe.error(other) > 0.01
