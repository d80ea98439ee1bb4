import numpy as np
import pytest

from edgeprune.dependency.solve import analyse
from edgeprune.errors import PassError
from edgeprune.importance import rank
from edgeprune.importance.context import Context
from edgeprune.importance.gates import with_gates
from edgeprune.importance.gradient import _drawn
from edgeprune.outputs.output_spec import CLASS_SCORES, TOP1, OutputSpec
from tests.small_models import build, calibration, class_scores, normal


def linear_pair(second: np.ndarray):
    """y = W2 W1 x: removing hidden unit j changes y by W2[:, j] h_j, exactly."""
    return build(
        "g (float[n,6] x) => (float[n,3] y) { h = MatMul(x, w1) y = MatMul(h, w2) }",
        w1=np.eye(6, dtype=np.float32),
        w2=second,
    )


CLASSES = OutputSpec(("y",), CLASS_SCORES, TOP1, "in a test")


def samples(count: int = 256) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, 6)).astype(np.float32)


@pytest.mark.parametrize("name", ["taylor", "fisher", "output"])
def test_a_unit_that_reaches_the_output_more_goes_later(name: str) -> None:
    second = normal(6, 3) * np.array([0.1, 3.0, 0.0, 1.0, 0.3, 9.0], np.float32)[:, None]
    model = linear_pair(second)
    analysis = analyse(model)
    ranking = rank(name, model, analysis, class_scores(calibration(x=samples())))[analysis.groups[0].id]
    strength = np.linalg.norm(second, axis=1)
    assert ranking.order[0] == 2
    assert ranking.loss[1] < 1e-6
    assert strength[ranking.order[-1]] == strength.max()
    assert (np.diff(ranking.loss) >= 0).all()


def test_fisher_of_a_linear_classifier_is_its_closed_form() -> None:
    second = normal(6, 3)
    model = linear_pair(second)
    analysis = analyse(model)
    x = samples(256)
    ranking = rank("fisher", model, analysis, class_scores(calibration(x=x)))[analysis.groups[0].id]
    logits = x @ second
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reach = x[:, :, None] * second[None]  # of unit u into class c
    expected = ((p[:, None] * reach**2).sum(-1) - (p[:, None] * reach).sum(-1) ** 2).sum(axis=0)
    steps = np.empty(6)
    steps[ranking.order] = np.diff(ranking.loss)
    # 1,024 drawn labels: a share of the total is known to a few hundredths.
    np.testing.assert_allclose(steps, expected / expected.sum(), rtol=0, atol=0.04)


def test_drawn_labels_have_no_gradient_on_average() -> None:
    rng = np.random.default_rng(0)
    logits = np.tile(np.array([[2.0, 0.0, -1.0]], np.float32), (4000, 1))
    np.testing.assert_allclose(_drawn(logits, CLASSES, rng, 4000, 1.0).mean(axis=0), 0, rtol=0, atol=0.03)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(_drawn(p.astype(np.float32), CLASSES, rng, 4000, 1.0).mean(axis=0), -1, rtol=0, atol=0.3)


def test_a_gate_belongs_to_every_channel_that_a_layer_reads() -> None:
    model = build(
        """g (float[n,2,4,4] x) => (float[n,4] y) {
            h = Conv(x, w1) r = Relu(h) f = Flatten(r) y = Gemm(f, w2)
        }""",
        w1=normal(3, 2, 1, 1),
        w2=normal(48, 4),
    )
    context = Context(model, analyse(model).groups, calibration(x=np.ones((4, 2, 4, 4), np.float32)))
    (group,) = [g for g in context.groups if g.size == 3]
    gated = with_gates(context, [group], {"x": (4, 2, 4, 4)})
    (consumer,) = context.consumers(group)
    np.testing.assert_array_equal(gated.channels(consumer), np.repeat([0, 1, 2], 16))


def test_an_operator_without_a_gradient_is_named() -> None:
    model = build(
        "g (float[n,6] x) => (float[n,3] y) { h = MatMul(x, w1) m = MatMul(h, w2) y = Round(m) }",
        w1=normal(6, 6),
        w2=normal(6, 3),
    )
    with pytest.raises(PassError, match=r"no gradient of Round \[node_2\]"):
        rank("fisher", model, analyse(model), calibration(x=samples(16)))
