"""Every kind of output notices when it changes, and the drop is that of the worst."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.outputs.find import outputs_of_values
from edgeprune.outputs.judging import Comparison, points, worst
from edgeprune.outputs.output_spec import CLASS_MAP, EQUAL, SEQUENCE, Head, Outputs, OutputSpec, Part
from edgeprune.outputs.signal_noise import CEILING_DB
from edgeprune.report import OutputScore

RNG = np.random.default_rng(0)


def score(spec: OutputSpec, wanted: np.ndarray, got: np.ndarray, batches: int = 2) -> float:
    comparison = Comparison(Outputs(spec.names, (spec,)))
    for one, other in zip(np.array_split(wanted, batches), np.array_split(got, batches), strict=True):
        comparison.add([one], [other])
    return comparison.scores()[0].after


def spec(kind: str, metric: str, axis: int = -1) -> OutputSpec:
    return OutputSpec(("y",), kind, metric, "in a test", axis=axis)


def test_the_blank_between_letters_hides_nothing() -> None:
    """90% of the steps are blanks. All letters are wrong: agreement is 0%, not 90%."""
    wanted = np.zeros((4, 20, 5), np.float32)
    wanted[..., 0] = 1
    wanted[:, ::10, 2] = 2
    got = wanted.copy()
    got[:, ::10, 3] = 3
    assert score(spec("sequence", "top1"), wanted, wanted) == 100
    assert score(spec("sequence", "top1"), wanted, got) == 0
    assert score(spec("class map", "top1"), wanted, got) == 90
    wanted[:, :10], got[:, :10] = wanted[:, 1:2], got[:, 1:2]
    assert score(spec("class map", "top1"), wanted, got) == 0, "nor does a background of 95%"


def test_boxes_are_compared_with_the_size_of_boxes() -> None:
    """A shift by a third of a box: half of the area stays common. SQNR about zero would call it 26 dB."""
    low = 300 + RNG.uniform(-20, 20, (40, 2))
    boxes = np.concatenate([low, low + 30], axis=1)
    assert score(spec("boxes", "iou"), boxes, boxes) == 100
    assert score(spec("boxes", "iou"), boxes, boxes + np.array([10, 0, 10, 0])) == pytest.approx(50)
    assert score(spec("tensor", "sqnr"), boxes, boxes + 10) > 26
    assert score(spec("coordinates", "sqnr"), boxes, boxes + 10) < 10


def test_an_embedding_with_a_common_direction_is_compared_about_its_mean() -> None:
    x = 10 + RNG.standard_normal((40, 32))
    other = 10 + RNG.standard_normal((40, 32))
    assert score(spec("embedding", "cosine"), x, 3 * x - 2 * x.mean(axis=0)) == pytest.approx(100)
    assert abs(score(spec("embedding", "cosine"), x, other)) < 20
    assert score(spec("embedding", "cosine"), x, np.full_like(x, np.nan)) == 0


def test_masks_indices_and_integers() -> None:
    mask = np.zeros((2, 1, 8, 8))
    mask[..., :4] = 1
    assert score(spec("map", "iou"), mask, np.roll(mask, 2, axis=-1)) == pytest.approx(100 / 3)
    indices = np.array([[1, 2, 3], [4, 5, 6]])
    assert score(spec("indices", "equal"), indices, indices[:, ::-1]) == 100
    assert score(spec("indices", "equal"), indices, indices + np.array([0, 0, 9])) == pytest.approx(200 / 3)
    assert score(spec("ranking", "equal"), indices, indices[:, [0, 2, 1]]) == 100
    assert score(spec("ranking", "equal"), indices, indices[:, ::-1]) == 0, "another class is the first one"
    assert score(spec("ranking", "equal"), indices, indices + np.array([0, 0, 9])) == pytest.approx(200 / 3)
    assert score(spec("integers", "equal"), indices, indices[:, ::-1]) == pytest.approx(100 / 3)
    assert score(spec("integers", "equal"), indices, indices[:1], batches=1) == 50, "rows that are gone count"


HEAD = Head(Part("y", 1, 0, 4), Part("y", 1, 4, 6))
DETECTIONS = OutputSpec(("y",), "detections", "detections", "in a test", head=HEAD)


def detector(samples: int = 4) -> np.ndarray:
    """Ten objects in each sample, of two classes, and positions that show nothing."""
    x = np.zeros((samples, 6, 50))
    x[:, 0], x[:, 1] = np.arange(50) * 40, 100
    x[:, 2:4] = 30
    x[:, 4, :5] = x[:, 5, 5:10] = 0.9
    return x


def test_detections_are_matched_with_their_class_and_place() -> None:
    wanted = detector()
    assert score(DETECTIONS, wanted, wanted) == 100
    shifted, lost, relabelled, unread = (wanted.copy() for _ in range(4))
    shifted[:, 0] += 20
    lost[:, 4:, :4] = 0.1
    relabelled[:, 4, :5], relabelled[:, 5, :5] = 0.1, 0.9
    unread[:, :4, 10:] = 7
    assert score(DETECTIONS, wanted, shifted) == 0
    assert score(DETECTIONS, wanted, lost) == pytest.approx(100 * 2 * 6 / 16)
    assert score(DETECTIONS, wanted, relabelled) == 50
    assert score(DETECTIONS, wanted, unread) == 100
    assert score(DETECTIONS, wanted, np.full_like(wanted, np.nan)) == 0


def test_two_boxes_of_one_object_are_one_detection() -> None:
    wanted = detector()
    double = wanted.copy()
    double[:, :, 10:20] = wanted[:, :, :10]
    double[:, 4:, 10:20] *= 0.9
    assert score(DETECTIONS, wanted, double) == 100


def test_points_of_each_unit() -> None:
    assert points("dB", 20.0) == pytest.approx(1.0)
    assert points("%", 99.0) == 1.0
    assert points("dB", -120.0) == 1000.0


def many_outputs(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((32, 6))
    logits[np.arange(32), rng.integers(0, 6, 32)] += 8
    e = np.exp(logits)
    return [
        (e / e.sum(axis=1, keepdims=True)).astype(np.float32),
        rng.standard_normal((32, 4)).astype(np.float32),
        rng.standard_normal((32, 4, 5, 6)).astype(np.float32),
        rng.standard_normal((32, 64)).astype(np.float32),
        -np.sort(-rng.random((32, 5)), axis=1).astype(np.float32),
        rng.integers(0, 9, (32, 3)),
        np.full((32, 2), [4, -4], np.float32),
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), which=st.integers(0, 6))
def test_no_output_hides_another(seed: int, which: int) -> None:
    """If any one output becomes another sample's, the drop is large and is that output's."""
    wanted = many_outputs(seed)
    got = list(wanted)
    got[which] = np.roll(wanted[which], 1, axis=0) if which != 6 else wanted[which] + 2
    comparison = Comparison(outputs_of_values(wanted))
    comparison.add(wanted, got)
    lost = worst(comparison.scores())
    assert lost.names == (str(which),)
    assert lost.drop > 5


def test_the_background_of_integer_classes_hides_nothing() -> None:
    """A map of 3% foreground without it would be 97% equal; so would a sequence of blanks."""
    rng = np.random.default_rng(0)
    ids = (rng.random((4, 64, 64)) < 0.03).astype(np.int64) * rng.integers(1, 5, (4, 64, 64))
    for kind, one in ((CLASS_MAP, ids), (CLASS_MAP, ids > 0), (SEQUENCE, ids.reshape(4, -1))):
        outputs = Outputs(("y",), (OutputSpec(("y",), kind, EQUAL, "in a test"),))
        for other, low, high in ((one, 100, 100), (np.zeros_like(one), 0, 0)):
            comparison = Comparison(outputs)
            comparison.add([one[:2]], [other[:2]])
            comparison.add([one[2:]], [other[2:]])
            (score,) = comparison.scores()
            assert low <= score.after <= high
        assert score.metric == ("pixel agreement" if kind == CLASS_MAP else "agreement by step")


MASK, STEPS, CLASSES = spec("map", "iou"), spec("sequence", "top1"), spec(CLASS_MAP, EQUAL)


def compared(kind: OutputSpec, wanted: np.ndarray, got: np.ndarray) -> OutputScore:
    comparison = Comparison(Outputs(kind.names, (kind,)))
    comparison.add([wanted], [got])
    return comparison.scores()[0]


@pytest.mark.parametrize("kind", [DETECTIONS, MASK, STEPS], ids=["detections", "mask", "steps"])
def test_where_neither_finds_anything_the_values_are_compared(kind: OutputSpec) -> None:
    """Agreement of nothing with nothing is 100%: a network that is destroyed would seem to be perfect."""
    rng = np.random.default_rng(0)
    empty = detector() * 0.1 if kind is DETECTIONS else 0.3 * rng.random((4, 12, 8)).astype(np.float32)
    broken = empty * rng.uniform(0.1, 1, empty.shape).astype(np.float32)
    if kind is not DETECTIONS:
        broken[..., 0] = empty[..., 0] = 0.45  # the blank
    found = compared(kind, empty, broken)
    assert "in either" in found.metric or "in both" in found.metric
    assert (found.unit, found.before) == ("dB", None)
    assert 0 < found.after < 20
    assert compared(kind, empty, empty).after == CEILING_DB


def test_integer_classes_that_are_all_background_say_so() -> None:
    assert "nothing but" in compared(CLASSES, np.zeros((2, 8, 8), np.int64), np.zeros((2, 8, 8), np.int64)).metric
