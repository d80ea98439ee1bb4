"""Suppression works in blocks of boxes, and gives what the loop of its definition gives."""

import numpy as np
import pytest

from edgeprune.outputs.box_geometry import BLOCK, iou_of_pairs, suppressed
from edgeprune.outputs.detection_matching import Detections, matches

RNG = np.random.default_rng(0)


def random_boxes(count: int, side: float) -> np.ndarray:
    low = RNG.uniform(0, side, (count, 2))
    return np.rint(np.concatenate([low, low + RNG.uniform(0, 20, (count, 2))], axis=1))


def by_definition(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float, most: int) -> list[int]:
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        covered = any(labels[i] == labels[j] and iou_of_pairs(boxes[i], boxes[j]) >= iou for j in kept)
        if len(kept) < most and not covered:
            kept.append(int(i))
    return kept


@pytest.mark.parametrize("count", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])
@pytest.mark.parametrize(("side", "classes", "most"), [(10, 1, 300), (60, 3, 300), (60, 2, 7), (300, 2, 100)])
def test_suppression_by_blocks(count: int, side: float, classes: int, most: int) -> None:
    boxes = random_boxes(count, side)
    scores, labels = RNG.uniform(size=count).round(2), RNG.integers(0, classes, count)
    assert suppressed(boxes, scores, labels, 0.6, most).tolist() == by_definition(boxes, scores, labels, 0.6, most)


def test_equal_boxes_overlap_fully_even_empty_ones_and_broken_ones_not_at_all() -> None:
    boxes = np.array([[0, 0, 10, 10], [3, 3, 3, 3], [5, 5, 4, 4], [np.nan, 0, 1, 1]])
    assert iou_of_pairs(boxes, boxes).tolist() == [1, 1, 1, 0]
    assert iou_of_pairs(boxes[:, None], boxes)[0].tolist() == [1, 0, 0, 0]
    assert iou_of_pairs(np.array([0.0, 0, 10, 10]), np.array([5.0, 0, 15, 10])) == pytest.approx(1 / 3)


def test_a_box_is_matched_once_by_the_detection_that_comes_first() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [2.0, 0, 12, 10]])
    one = Detections(boxes, np.array([0.9, 0.8]), np.zeros(2, np.int64))
    other = Detections(boxes[[1, 1, 0]], np.array([0.9, 0.8, 0.7]), np.zeros(3, np.int64))
    assert matches(one, other) == 2
    assert matches(one, Detections(boxes, one.scores, np.array([0, 1]))) == 1
    nothing = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))
    assert matches(one, nothing) == matches(nothing, one) == matches(nothing, nothing) == 0
