"""Heads of detectors: boxes and scores, joined in one output or apart.

Recognized by the values, and by a Sigmoid or Softmax near the output:

* joined: (batch, 4 + classes, positions) as YOLOv8 and later, or with the last two axes exchanged; with an objectness
  before the classes as YOLOv5 and YOLOX; further channels (mask coefficients, keypoints) may follow the scores;
* end to end: (batch, detections, 6): corners, score, class;
* apart: boxes (batch, positions, 4) and scores (batch, positions, classes), or (batch, positions) with or without an
  output of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeprune.outputs.box_geometry import are_corners, are_spread, have_sizes
from edgeprune.outputs.class_scores import sum_to_one
from edgeprune.outputs.detection_matching import THRESHOLD, channels_last, decoded
from edgeprune.outputs.output_spec import DETECTIONS, MATCHES, SQNR, Array, Head, OutputSpec, Part, select
from edgeprune.outputs.seen import Seen

LEAST_POSITIONS = 10
MOST_BACKGROUND = 0.5
"""A class is the background if it is the first one at more than this share of the positions."""
FOLLOWS = 0.8
"""A channel is an objectness if, wherever it is high, some class is high at this share of the positions."""


def detections(outputs: Sequence[Seen]) -> list[OutputSpec]:
    """The specs of all heads among the outputs; an output belongs to one of them at most."""
    found = []
    for seen in outputs:
        head = _end_to_end(seen) or _joined(seen)
        if head is not None:
            found.append(_spec(head, [seen]))
    joined = {name for spec in found for name in spec.names}
    rest = [seen for seen in outputs if seen.name not in joined]
    while (pair := _apart(rest)) is not None:
        head, members = pair
        found.append(_spec(head, members))
        rest = [seen for seen in rest if seen not in members]
    return found


def _spec(head: Head, members: Sequence[Seen]) -> OutputSpec:
    names = tuple(seen.name for seen in members)
    arrays = select(names, [seen.array for seen in members])
    why = "boxes and scores in one output" if len(members) == 1 else "boxes with scores over the same positions"
    if any(len(found.scores) for found in decoded(head, arrays)):
        return OutputSpec(names, DETECTIONS, MATCHES, why, head=head)
    none = f"{why}; none has a score of {THRESHOLD:g} or more on the samples"
    return OutputSpec(names, DETECTIONS, SQNR, none, head=head)


def _end_to_end(seen: Seen) -> Head | None:
    x = seen.array
    if not seen.is_float or x.ndim != 3 or x.shape[2] != 6 or not x.size or not np.isfinite(x).all():
        return None
    flat = x.reshape(-1, 6)
    scores, labels = flat[:, 4], flat[:, 5]
    whole = bool((labels == np.rint(labels)).all() and (labels >= -1).all() and labels.max() < 10_000)
    if not whole or not _in_unit(scores) or not np.ptp(scores) or not are_corners(flat[:, :4]):
        return None
    if not seen.has_behind("TopK", "NonMaxSuppression", "ArgMax", "GatherElements", "GatherND", "Gather", most=64):
        return None
    name = seen.name
    return Head(Part(name, 2, 0, 4), Part(name, 2, 4, 5), Part(name, 2, 5, 6), corners=True)


def _joined(seen: Seen) -> Head | None:
    x = seen.array
    if not seen.is_float or x.ndim != 3 or not x.size or not np.isfinite(x).all():
        return None
    if not seen.has_behind("Concat") or not seen.has_behind("Sigmoid", "Softmax", "HardSigmoid", "Clip", most=64):
        return None
    if sum_to_one(x, 1) or sum_to_one(x, 2):
        return None  # probabilities of classes, as of the characters of a text
    for axis in (1, 2) if x.shape[1] <= x.shape[2] else (2, 1):
        if x.shape[axis] < 5 or x.shape[3 - axis] < LEAST_POSITIONS:
            continue
        flat = x.swapaxes(1, 2) if axis == 1 else x
        flat = flat.reshape(-1, x.shape[axis])
        within = (flat[:, 4:].min(axis=0) >= 0) & (flat[:, 4:].max(axis=0) <= 1)
        count = len(within) if within.all() else int(within.argmin())
        boxes = flat[:, :4]
        if not count or not (have_sizes(boxes) or are_corners(boxes)) or not np.ptp(boxes):
            continue
        if _in_unit(boxes) and not np.median(flat[:, 4 : 4 + count]) < np.median(boxes):
            continue
        name, start = seen.name, 4
        objectness = None
        if count > 1 and axis == 2 and _is_objectness(flat[:, 4], flat[:, 5 : 4 + count]):
            objectness, start = Part(name, axis, 4, 5), 5
        return Head(
            Part(name, axis, 0, 4),
            Part(name, axis, start, 4 + count),
            objectness=objectness,
            corners=are_corners(boxes),
        )
    return None


def _is_objectness(first: Array, classes: Array) -> bool:
    high = first >= THRESHOLD
    return bool(high.any()) and float((classes[high].max(axis=1) >= THRESHOLD).mean()) >= FOLLOWS


def _apart(outputs: Sequence[Seen]) -> tuple[Head, list[Seen]] | None:
    lengths = {seen.array.shape[-2] for seen in outputs if seen.array.ndim > 1 and seen.array.shape[-1] == 4}
    if any(4 * length in lengths for length in lengths):
        return None  # one output for each level of a pyramid: distances that the user's code decodes
    for boxes in outputs:
        x = boxes.array
        if not boxes.is_float or not 2 <= x.ndim <= 4 or x.shape[-1] != 4 or not x.size or _spatial(x):
            continue
        part = Part(boxes.name, 2, 0, 4)
        places = channels_last({boxes.name: x}, part)
        flat = places.reshape(-1, 4)
        if not np.isfinite(flat).all() or not (are_corners(flat) or have_sizes(flat)):
            continue
        if len(flat) < LEAST_POSITIONS or not are_spread(flat):
            continue
        for scores in outputs:
            head = None if scores is boxes else _with_scores(part, places, scores)
            if head is None:
                continue
            labels = next((s for s in outputs if _are_labels(s, scores)), None) if head.scores.axis == 0 else None
            head = replace(head, corners=are_corners(flat))
            if labels is None:
                return head, [boxes, scores]
            return replace(head, labels=Part(labels.name, 0)), [boxes, scores, labels]
    return None


def _spatial(x: Array) -> bool:
    """Whether boxes lie on a grid, not in a list: then they are offsets from its cells."""
    return x.ndim == 4 and min(x.shape[1:3]) > 1


def _with_scores(part: Part, boxes: Array, scores: Seen) -> Head | None:
    """The head of boxes, shape (samples, positions, 4), with another output as their scores, if it fits."""
    x = scores.array
    if not scores.is_float or not x.size or not np.isfinite(x).all():
        return None
    if x.shape == boxes.shape[:2] or (boxes.shape[0] == 1 and x.shape == boxes.shape[1:2]):
        return Head(part, Part(scores.name, 0)) if _in_unit(x) and np.ptp(x) else None
    if x.ndim not in (2, 3) or (x.shape[-1] == 4 and not _in_unit(x)):
        return None
    of = Part(scores.name, 2, 0, x.shape[-1])
    values = channels_last({scores.name: x}, of)
    if values.shape[:2] != boxes.shape[:2]:
        return None
    background = _background(values)
    if _in_unit(values):
        if values.shape[-1] > 1 and sum_to_one(values, -1):
            return Head(part, of, background=background)
        return Head(part, of) if np.ptp(values) else None
    if not (scores.is_called("classes") and scores.made_by() in ("Gemm", "MatMul", "Conv", "Add", "Concat")):
        return None
    if background is not None and values.shape[-1] > 1:
        return Head(part, of, background=background, activation="softmax")
    return Head(part, of, activation="sigmoid")


def _background(scores: Array) -> int | None:
    if scores.shape[-1] < 2:
        return None
    counts = np.bincount(scores.argmax(axis=-1).reshape(-1), minlength=scores.shape[-1])
    best = int(counts.argmax())
    return best if counts[best] > MOST_BACKGROUND * counts.sum() and best in (0, scores.shape[-1] - 1) else None


def _are_labels(labels: Seen, scores: Seen) -> bool:
    x = labels.array
    return labels is not scores and x.shape == scores.array.shape and bool((x == np.rint(x)).all() and np.ptp(x) >= 0)


def _in_unit(x: Array) -> bool:
    return bool(x.min(initial=0) >= 0 and x.max(initial=0) <= 1)
