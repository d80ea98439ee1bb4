"""Class scores: logits or probabilities of a classifier, of every step of a sequence, or of every pixel.

A Softmax says it, or values that sum to 1. Without one, a last linear layer alone says nothing: it may as well give an
embedding or coordinates. Then the values decide. Cross-entropy only sees differences, so training leaves the sum of the
logits where it was while each of them varies; and one of them stands out.

Top-1 agreement is blind where the class never changes: then such an output is judged by its SQNR.
"""

from __future__ import annotations

import numpy as np

from edgeprune.outputs.output_spec import (
    CLASS_MAP,
    CLASS_SCORES,
    SEQUENCE,
    SQNR,
    TOP1,
    Array,
    OutputSpec,
)
from edgeprune.outputs.seen import LINEAR, Seen, rows

COMMONEST = 0.95
"""If one class is predicted at a larger share of the positions, top-1 agreement says too little."""

STEADY = 0.2
"""The variance of the sum of logits is less than this share of the sum of their variances; of independent values, 1."""

STANDS_OUT = {2: 0.7}
STANDS_OUT_OF_MANY = 0.4
"""The median probability of the first class is at least this."""

LEAST_CLASSES = 10
"""A last linear layer with fewer outputs is not taken for class scores without other evidence."""

MANY_CLASSES, NEAR_END = 100, 8
"""So many values need not come from the last node, as in the mean of two heads, and may all be positive."""

EMBEDDING_SIZES = frozenset(2**k for k in range(6, 13))


def class_scores(seen: Seen, sure: bool = True) -> OutputSpec | None:
    """The spec of an output with class scores; None if it has none.

    Args:
        seen: the output.
        sure: whether evidence is needed: a Softmax, sums of 1, a name, or the values. Otherwise a last linear layer
            with a usual number of classes is enough.
    """
    x = seen.array
    if not seen.is_float or x.ndim < 2 or not x.size:
        return None
    if (axis := seen.softmax_axis()) is not None and x.shape[axis] > 1:
        return _spec(seen, axis, "a Softmax gives it")
    for axis in dict.fromkeys((-1, 1 - x.ndim)):
        if x.shape[axis] > 1 and sum_to_one(x, axis):
            return _spec(seen, axis, "its values are probabilities")
    if sure:
        return _logits(seen)
    classes = x.shape[-1]
    if x.ndim != 2 or classes < LEAST_CLASSES or classes in EMBEDDING_SIZES:
        return None
    last = seen.made_by() in LINEAR | {""} and bool((x < 0).any())
    if last or (classes >= MANY_CLASSES and seen.has_behind(*LINEAR, most=NEAR_END)):
        return _spec(seen, -1, f"the last layer gives {classes} values")
    return None


def _logits(seen: Seen) -> OutputSpec | None:
    """Logits by their name, or by their values behind a linear layer."""
    x = seen.array
    if any(seen.is_called(what) for what in ("boxes", "coordinates", "embedding", "map")):
        return None
    axes = [-1] if x.ndim < 4 else [1 - x.ndim]
    if x.ndim == 3 and x.shape[1] < x.shape[2]:  # classes of points: (samples, classes, points)
        axes = [1 - x.ndim, -1]
    for axis in axes:
        if x.shape[axis] < 2:
            continue
        if seen.made_by() in LINEAR | {"Resize", "Upsample", "GlobalAveragePool", "ReduceMean"}:
            if x.ndim == 2 and seen.is_called("classes"):
                return _spec(seen, axis, "its name and a last linear layer")
            if are_logits(rows(x, axis)):
                return _spec(seen, axis, "its values vary like logits")
            if x.ndim == 4 and seen.made_by() in ("Resize", "Upsample") and _is_full_of_classes(x.shape[axis]):
                return _spec(seen, axis, f"a map of {x.shape[axis]} channels, resized to the image")
    return None


def _is_full_of_classes(channels: int) -> bool:
    """Whether a resized map has so many channels that it is a segmentation: not an image, a flow or features."""
    return channels > 4 and channels & (channels - 1) != 0


def _spec(seen: Seen, axis: int, why: str) -> OutputSpec:
    kind = CLASS_SCORES if seen.array.ndim == 2 else SEQUENCE if seen.array.ndim == 3 else CLASS_MAP
    if class_varies(seen.array, axis):
        return OutputSpec((seen.name,), kind, TOP1, why, axis=axis)
    return OutputSpec((seen.name,), kind, SQNR, f"{why}; the class is the same on all samples", axis=axis)


def class_varies(x: Array, axis: int = -1) -> bool:
    """Whether the predicted class differs between positions, so that agreement says something."""
    classes = x.argmax(axis=axis).reshape(-1)
    counts = np.bincount(classes)
    if x.ndim > 2:  # most steps and pixels may show the background, which agreement leaves out
        return int((counts > 0).sum()) > 1
    return int((counts > 0).sum()) > 1 and bool(counts.max() <= max(COMMONEST * len(classes), len(classes) - 1))


def sum_to_one(x: Array, axis: int) -> bool:
    """Whether values are probabilities along an axis."""
    if float(x.min(initial=0)) < 0 or not np.isfinite(x).all():
        return False
    return bool(np.abs(x.sum(axis=axis, dtype=np.float64) - 1).max(initial=0) < 1e-2)


def are_logits(x: Array) -> bool:
    """Whether rows of shape (positions, classes) vary like the logits of a trained classifier."""
    if len(x) < 4 or not np.isfinite(x).all():
        return False
    spread = x.var(axis=0).sum()
    if spread <= 0 or x.sum(axis=1).var() > STEADY * spread:
        return False
    counts = np.bincount(x.argmax(axis=1))
    if counts.max() > COMMONEST * len(x):
        return False
    e = np.exp(x - x.max(axis=1, keepdims=True))
    best = 1 / e.sum(axis=1)
    return float(np.median(best)) >= STANDS_OUT.get(x.shape[1], STANDS_OUT_OF_MANY)
