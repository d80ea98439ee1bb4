"""Detections: read from a detector's outputs, and matched with the original's.

A detection of the result is right if one of the original's has its class and overlaps it by an IoU of at least 0.5;
each counts once. The figure is F1: twice the matches over the detections of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs.box_geometry import iou_of_pairs, suppressed, to_corners
from edgeprune.outputs.output_spec import Array, Head, OutputSpec, Part

THRESHOLD = 0.25
"""Detections have a score of at least this, as in the predict mode of Ultralytics YOLO."""
SUPPRESSION_IOU = 0.6
MATCHED_IOU = 0.5
MOST_CANDIDATES, MOST_DETECTIONS = 1000, 300


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one sample: boxes in corners, shape (count, 4), and their scores and classes, shape (count,)."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]


class DetectionAgreement:
    """F1 in percent of the detections against the original's."""

    def __init__(self, spec: OutputSpec):
        assert spec.head is not None
        self._head = spec.head
        self._matched = self._found = 0

    def add_all(self, wanted: Mapping[str, Array], got: Mapping[str, Array]) -> None:
        """Compare the outputs of one batch, by name."""
        for one, other in zip(decoded(self._head, wanted), decoded(self._head, got), strict=True):
            self._matched += matches(one, other)
            self._found += len(one.scores) + len(other.scores)

    @property
    def is_blind(self) -> bool:
        """Whether neither model found anything."""
        return not self._found

    def score(self) -> float:
        """Percent; 100 if neither finds anything."""
        return 100.0 * 2 * self._matched / self._found if self._found else 100.0


def decoded(head: Head, outputs: Mapping[str, Array]) -> Iterator[Detections]:
    """The detections of each sample."""
    boxes = channels_last(outputs, head.boxes)
    scores = probabilities(channels_last(outputs, head.scores), head.activation)
    if head.background is not None:
        scores = np.delete(scores, head.background, axis=-1)
    if head.objectness is not None:
        scores = scores * channels_last(outputs, head.objectness)
    labels = None if head.labels is None else channels_last(outputs, head.labels)[..., 0]
    for i in range(len(boxes)):
        best = np.nan_to_num(scores[i].max(axis=-1, initial=0), nan=0.0)
        classes = scores[i].argmax(axis=-1) if labels is None else np.rint(np.nan_to_num(labels[i]))
        chosen = np.flatnonzero((best >= THRESHOLD) & np.isfinite(boxes[i]).all(axis=-1))
        chosen = chosen[np.argsort(-best[chosen], kind="stable")[:MOST_CANDIDATES]]
        corners = boxes[i][chosen].astype(np.float64)
        corners = corners if head.corners else to_corners(corners)
        best, classes = best[chosen].astype(np.float64), classes[chosen].astype(np.int64)
        kept = suppressed(corners, best, classes, SUPPRESSION_IOU, MOST_DETECTIONS)
        yield Detections(corners[kept], best[kept], classes[kept])


def matches(one: Detections, other: Detections) -> int:
    """Number of matches; a detection with a higher score chooses first, and takes the box that it overlaps most."""
    overlaps = iou_of_pairs(other.boxes[:, None], one.boxes)
    overlaps[other.labels[:, None] != one.labels] = 0
    count = 0
    rows = overlaps[(overlaps >= MATCHED_IOU).any(axis=1)]
    for row in rows:
        best = int(row.argmax())
        if row[best] >= MATCHED_IOU:
            rows[:, best] = 0  # taken
            count += 1
    return count


def channels_last(outputs: Mapping[str, Array], part: Part) -> Array:
    """The channels of a part, shape (samples, positions, channels). Rows without an axis of samples are one sample."""
    x = outputs[part.name]
    if part.axis == 0:
        return x.reshape(x.shape[0] if x.ndim > 1 else 1, -1, 1)
    x = x[None] if x.ndim == 2 else x
    if x.ndim > 3:  # axes of length 1 between the samples and the positions
        x = x.reshape(x.shape[0], -1, x.shape[-1])
    x = x.swapaxes(1, 2) if part.axis == 1 else x
    return x[..., part.start : part.stop]


def probabilities(scores: Array, activation: str) -> Array:
    """Scores between 0 and 1."""
    if activation == "sigmoid":
        return np.asarray(1 / (1 + np.exp(-np.clip(scores.astype(np.float64), -60, 60))))
    if activation == "softmax":
        e = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))
    return scores
