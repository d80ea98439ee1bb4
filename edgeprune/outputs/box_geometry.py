"""Boxes: their two forms, their overlap, and non-maximum suppression."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs.output_spec import Array

MOST_EXCEPTIONS = 0.02
"""Share of boxes that may break a rule: a network also draws impossible ones, where nothing is."""

LEAST_SPREAD = 0.8
"""Standard deviation of the centers of such boxes, in mean sizes of a box."""
MOST_OVERLAP, SPREAD_PAIRS = 0.15, 1000
"""The median overlap of this many random pairs of boxes that lie all over an image is at most this."""

BLOCK = 64
"""So many boxes suppress others at a time."""


def to_corners(boxes: Array) -> Array:
    """Center x, center y, width and height as x1, y1, x2, y2; shape (boxes, 4)."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def are_corners(boxes: Array) -> bool:
    """Whether boxes of shape (..., 4) are x1, y1, x2, y2: the second corner is never above or left of the first."""
    return bool(len(boxes)) and float((boxes[..., 2:] < boxes[..., :2]).any(axis=-1).mean()) <= MOST_EXCEPTIONS


def have_sizes(boxes: Array) -> bool:
    """Whether boxes of shape (..., 4) may have a center and a size: the size is never negative."""
    return bool(len(boxes)) and float((boxes[..., 2:] < 0).any(axis=-1).mean()) <= MOST_EXCEPTIONS


def are_spread(boxes: Array) -> bool:
    """Whether boxes of shape (boxes, 4) lie all over the image; distances to the sides of a cell would lie together."""
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 if are_corners(boxes) else boxes[:, :2]
    sizes = boxes[:, 2:] - boxes[:, :2] if are_corners(boxes) else boxes[:, 2:]
    if (centers.std(axis=0) < LEAST_SPREAD * sizes.mean(axis=0)).any():
        return False
    order = np.random.default_rng(0).permutation(len(boxes))[:SPREAD_PAIRS]
    one = boxes[order].astype(np.float64)
    one = one if are_corners(boxes) else to_corners(one)
    return bool(len(one) > 1) and float(np.median(iou_of_pairs(one[:-1], one[1:]))) <= MOST_OVERLAP


def iou_of_pairs(one: Array, other: Array) -> NDArray[np.float64]:
    """Intersection over union of boxes in corners, row by row; two equal boxes overlap fully, even empty ones.

    Shapes (..., 4) that broadcast: with (n, 1, 4) and (m, 4) every box meets every other.
    """
    one, other = np.moveaxis(one, -1, 0), np.moveaxis(other, -1, 0)
    width = np.minimum(one[2], other[2]) - np.maximum(one[0], other[0])
    height = np.minimum(one[3], other[3]) - np.maximum(one[1], other[1])
    inter = np.maximum(width, 0) * np.maximum(height, 0)
    areas = [np.maximum(x[2] - x[0], 0) * np.maximum(x[3] - x[1], 0) for x in (one, other)]
    union = areas[0] + areas[1] - inter
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.asarray(inter / union)
    unknown = ~((union > 0) & (found >= 0))
    if unknown.any():
        equal = (one[0] == other[0]) & (one[1] == other[1]) & (one[2] == other[2]) & (one[3] == other[3])
        found = np.where(unknown, equal, found)
    return found


def suppressed(boxes: Array, scores: Array, labels: Array, iou: float, most: int) -> NDArray[np.int64]:
    """Indices of the boxes that stay after non-maximum suppression within each class, the best score first."""
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while len(order) and len(kept) < most:
        block = order[:BLOCK]
        over = iou_of_pairs(boxes[block][:, None], boxes[order]) >= iou
        over &= labels[block][:, None] == labels[order]
        free = np.ones(len(block), bool)
        for i in range(len(block)):
            if free[i]:
                free[i + 1 :] &= ~over[i, i + 1 : len(block)]
        kept += block[free].tolist()
        order = order[len(block) :][~over[free, len(block) :].any(axis=0)]
    return np.array(kept[:most], np.int64)
