from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.calibration.calibration import Calibration
from edgeprune.graph import model_io as graph
from edgeprune.outputs.output_spec import CLASS_SCORES, MAP, SQNR, TOP1, Outputs, OutputSpec
from edgeprune.recovery.output_error import WORST, Probe, output_error
from edgeprune.testing.oracle import parse
from tests.small_heads import HEADS, head
from tests.small_models import calibration

RNG = np.random.default_rng(0)


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
    assert output_error([a], [b], CLASSES) == pytest.approx(0, abs=1e-6)
    p, q = softmax(scores(0).astype(np.float64)), softmax(scores(1).astype(np.float64))
    divergence = float((p * np.log(p / q)).sum(axis=1).mean())
    assert output_error([scores(0)], [scores(1)], CLASSES) == pytest.approx(divergence, rel=1e-5)


def test_probabilities_are_not_put_through_a_softmax_again() -> None:
    p, q = softmax(scores(0).astype(np.float64)), softmax(scores(1).astype(np.float64))
    divergence = float((p * np.log(p / q)).sum(axis=1).mean())
    assert output_error([p], [q]) == pytest.approx(divergence, rel=1e-4)


def detections(rng: np.random.Generator, samples: int = 40, anchors: int = 100) -> np.ndarray:
    """Boxes around anchors all over the image, and scores of 8 classes; few scores are high."""
    where = np.linspace(0, 640, anchors)
    boxes = where + rng.normal(0, 8, (samples, 4, anchors))
    return np.concatenate([boxes, rng.uniform(0, 1, (samples, 8, anchors)) ** 16], axis=1)


def test_boxes_and_scores_weigh_alike_whatever_their_scale_and_number() -> None:
    rng = np.random.default_rng(0)
    out = detections(rng)
    for part in (slice(0, 4), slice(4, 12)):
        noisy = out.copy()
        spread = out[:, part].std(axis=0, keepdims=True)
        noisy[:, part] += 0.3 * spread * rng.standard_normal(out[:, part].shape)
        assert output_error([out], [noisy]) == pytest.approx(0.09 / 2, rel=0.1)


def test_where_an_anchor_lies_is_no_knowledge() -> None:
    out = detections(np.random.default_rng(0))
    blind = out.copy()
    blind[:, :4] = out[:, :4].mean(axis=0)
    assert output_error([out], [blind]) == pytest.approx(1 / 2, rel=1e-6)


@pytest.mark.parametrize("separate", [False, True])
def test_boxes_that_nobody_reads_may_be_wrong(separate: bool) -> None:
    rng = np.random.default_rng(0)
    out = detections(rng)
    high = out[:, 4:].max(axis=1) > 0.5
    errors = []
    for wrong in (high, ~high):
        noisy = out + np.where(wrong[:, None] & (np.arange(12) < 4)[:, None], rng.normal(0, 8, out.shape), 0)
        pair = [([x[:, :4], x[:, 4:]] if separate else [x]) for x in (out, noisy)]
        errors.append(output_error(*pair) / wrong.mean())
    assert errors[0] > 3 * errors[1]


def test_coordinates_relative_to_the_image_are_no_scores() -> None:
    rng = np.random.default_rng(0)
    out = detections(rng)
    relative = out.copy()
    relative[:, :4] = 0.5 + (out[:, :4] - 320) / 1400
    noise = np.where((np.arange(12) < 4)[:, None], rng.normal(0, 2, out.shape), 0)
    assert output_error([relative], [relative + noise / 1400]) == pytest.approx(output_error([out], [out + noise]))


def test_one_sample_is_scored_by_its_positions() -> None:
    rng = np.random.default_rng(0)
    out = rng.standard_normal((1, 5, 400))
    noisy = out + 0.1 * rng.standard_normal(out.shape)
    assert output_error([out], [noisy]) == pytest.approx(0.01, rel=0.1)


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


CLASSES = Outputs(("y",), (OutputSpec(("y",), CLASS_SCORES, TOP1, "in a test"),))

NOISY = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 6] x) => (float[N, 6] y) <float[6] b = {%s}> { y = Add(x, b) }
"""


def test_a_difference_comes_with_what_the_samples_leave_open() -> None:
    rng = np.random.default_rng(0)
    data = calibration(x=rng.standard_normal((48, 6)).astype(np.float32) - 1).judging(CLASSES)
    original, near, far = (parse(NOISY % ", ".join(f"{step * i:.3f}" for i in range(6))) for step in (0.0, 0.02, 0.2))
    probe = Probe(original, data, 48, 1)
    worse, error = probe.difference(far, near)
    assert worse == pytest.approx(probe.error(far) - probe.error(near))
    assert worse > 4 * error > 0
    assert probe.difference(near, near) == (0, 0)
    assert probe.is_worse(far, near)
    assert not probe.is_worse(near, far)
    assert not probe.is_worse(near, near)
    # The jackknife of a mean is its standard error: that of the divergence, sample by sample.
    single = [Probe(original, calibration(x=x[None]).judging(CLASSES), 1, 1) for x in data_rows(data)]
    gaps = np.array([p.error(far) - p.error(near) for p in single]).reshape(16, 3).mean(axis=1)
    assert error == pytest.approx(gaps.std(ddof=1) / 4, rel=1e-6)


def test_a_difference_that_is_within_its_error_is_none() -> None:
    rng = np.random.default_rng(1)
    data = calibration(x=rng.standard_normal((32, 6)).astype(np.float32)).judging(CLASSES)
    original, one, two = (parse(NOISY % f"{moved}, 0, 0, 0, 0") for moved in ("0, 0", "0.1, 0", "0, 0.1"))
    probe = Probe(original, data, 32, 1)
    gap, error = probe.difference(one, two)
    assert 0 < abs(gap) < error
    assert not probe.is_worse(one, two)
    assert not probe.is_worse(two, one)


def test_one_sample_says_nothing_of_the_others() -> None:
    up, none = parse(NOISY % "1, 0, 0, 0, 0, 0"), parse(NOISY % "0, 0, 0, 0, 0, 0")
    probe = Probe(none, calibration(x=np.ones((1, 6), np.float32)), 1, 1)
    assert probe.difference(up, none)[1] == np.inf
    assert probe.is_worse(up, none)


def data_rows(data: Calibration) -> np.ndarray:
    return np.concatenate([feeds["x"] for feeds in data.batches()])


def face_network(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a face, and its box in pixels."""
    rng = np.random.default_rng(5)
    p = softmax(np.stack([rng.normal(0, 4, rows), np.zeros(rows)], axis=1))
    low, size = rng.uniform(50, 150, (rows, 2)), rng.uniform(60, 90, (rows, 1))
    return p.astype(np.float32), np.concatenate([low, low + size], axis=1).astype(np.float32)


def test_boxes_beside_class_probabilities_are_seen() -> None:
    """Every coordinate moves by the same: the softmax of the boxes would not change."""
    p, boxes = face_network()
    third = np.float32(25)
    assert output_error([p, boxes], [p, boxes + third]) > 0.2
    assert output_error([p, boxes], [p, boxes]) == 0
    assert output_error([p, boxes], [p[::-1], boxes]) > 0.2


def test_a_constant_far_from_the_other_does_not_hide_a_map() -> None:
    rng = np.random.default_rng(6)
    present = np.full((16, 2), [4, -4]) + 0.01 * rng.standard_normal((16, 2))
    feature = rng.standard_normal((16, 4, 6, 6))
    assert output_error([feature, present], [np.zeros_like(feature), present]) > 0.4
    assert output_error([feature, present], [feature, present + 0.5]) > 1


def test_integers_count_by_the_share_that_differs() -> None:
    labels = np.arange(40).reshape(8, 5)
    other = labels.copy()
    other[:, 0] += 1
    assert output_error([scores(0), labels], [scores(0), other]) == pytest.approx(0.1)
    assert output_error([labels], [labels[:4]]) == 1


def test_outputs_count_with_their_weights_and_those_without_one_do_not() -> None:
    rng = np.random.default_rng(7)
    one, two = rng.standard_normal((2, 20, 3, 4, 4))
    errors = []
    for weights in ((1, 1), (3, 1), (1, 0)):
        specs = tuple(OutputSpec((name,), MAP, SQNR, "", weight=w) for name, w in zip("ab", weights, strict=True))
        errors.append(output_error([one, two], [one, 0 * two], Outputs(("a", "b"), specs)))
    np.testing.assert_allclose(errors, [errors[0], errors[0] / 2, 0])
    assert errors[0] > 0.4


def test_a_depth_map_beside_a_rare_mask_is_read_everywhere() -> None:
    rng = np.random.default_rng(8)
    mask, depth = np.zeros((20, 1, 10, 10)), rng.standard_normal((20, 1, 10, 10))
    mask[:, :, 0, 0] = rng.random((20, 1))
    wrong = depth.copy()
    wrong[:, :, 5:] = 0
    assert output_error([mask, depth], [mask, wrong]) > 0.1


def shaken(model: ir.Model, size: float) -> ir.Model:
    """The model with noise in its weights."""
    changed, rng = graph.clone(model), np.random.default_rng(1)
    for name, value in changed.graph.initializers.items():
        array = value.const_value.numpy()
        if array.dtype == np.float32 and array.size > 1:
            noisy = array + size * np.abs(array).mean() * rng.standard_normal(array.shape)
            value.const_value = ir.Tensor(noisy.astype(np.float32), name=name)
    return changed


@pytest.mark.parametrize("name", HEADS)
def test_rows_in_the_order_of_a_choice_are_no_error_by_their_order(name: str) -> None:
    """The error grows with the square of a small change of the weights, whatever chooses from what they give."""
    model = head(name)
    data = calibration(1 if name == "suppressed" else 8, x=RNG.standard_normal((16, 3, 8, 8)).astype(np.float32))
    if name == "suppressed":
        data = replace(data, axes=replace(data.axes, joins=False))
    probe = Probe(model, data, 16, 1)
    small, larger = (probe.error(shaken(model, size)) for size in (1e-2, 1e-1))
    assert probe.error(model) == 0
    assert 0 < small < 5e-3
    assert larger / small == pytest.approx(100, rel=0.4)
