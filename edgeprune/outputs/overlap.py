"""Overlaps in percent: of boxes, of masks, and of sets of integers."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs.box_geometry import are_corners, iou_of_pairs, to_corners
from edgeprune.outputs.class_agreement import MOST_FREQUENT
from edgeprune.outputs.output_spec import BOXES, INDICES, RANKING, Array, OutputSpec


class BoxOverlap:
    """Mean intersection over union of boxes at the same position, last axis four."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    def add(self, wanted: Array, got: Array) -> None:
        """Compare the boxes of one batch."""
        one, other = (x.reshape(-1, 4).astype(np.float64) for x in (wanted, got))
        if not are_corners(one):
            one, other = to_corners(one), to_corners(other)
        self._sum += float(iou_of_pairs(one, other).sum())
        self._count += len(one)

    def score(self) -> float:
        """Percent."""
        return 100.0 * self._sum / self._count if self._count else 100.0


class MaskOverlap:
    """Intersection over union of masks: where probabilities are above 0.5, or other values above 0."""

    def __init__(self) -> None:
        self._both = self._either = 0

    def add(self, wanted: Array, got: Array) -> None:
        """Compare the masks of one batch."""
        edge = 0.5 if wanted.size and wanted.min() >= 0 and wanted.max() <= 1 else 0.0
        one, other = wanted > edge, got > edge
        self._both += int((one & other).sum())
        self._either += int((one | other).sum())

    @property
    def is_blind(self) -> bool:
        """Whether both masks are empty everywhere."""
        return not self._either

    def score(self) -> float:
        """Percent."""
        return 100.0 * self._both / self._either if self._either else 100.0


class Equality:
    """Percent of integers that are equal; indices in any order along the last axis.

    The first one of a ranking also counts by itself. The lower of the two figures is the score. Of the classes of
    pixels or steps, the most frequent one is left out where it would hide the others, as in
    `edgeprune.outputs.class_agreement`.
    """

    def __init__(self, spec: OutputSpec):
        self._any_order, self._ranked = spec.kind in (INDICES, RANKING), spec.kind == RANKING
        self._same = self._count = self._same_first = self._rows = 0
        self._limit = MOST_FREQUENT.get(spec.kind, 1.0)
        self._seen: Counter[int] = Counter()
        self._agreed: Counter[int] = Counter()

    def add(self, wanted: Array, got: Array) -> None:
        """Compare one batch; if the numbers of rows differ, the rows are compared as sets."""
        if self._ranked:
            self._rows += wanted[..., 0].size
            self._same_first += int((wanted[..., 0] == got[..., 0]).sum()) if wanted.shape == got.shape else 0
        if wanted.shape != got.shape or (self._any_order and wanted.ndim):
            one, other = (_rows(x, wanted.shape == got.shape) for x in (wanted, got))
            self._same += sum((one & other).values())
            self._count += max(one.total(), other.total())
            return
        self._same += int((wanted == got).sum())
        self._count += wanted.size
        if self._limit < 1:
            self._seen.update(_counts(wanted))
            self._agreed.update(_counts(wanted[wanted == got]))

    @property
    def is_blind(self) -> bool:
        """Whether there is nothing to compare: no values, or the most frequent class alone."""
        return not (self._count - self._trivial())

    def score(self) -> float:
        """Percent."""
        if self._seen:
            trivial = self._trivial()
            rest = self._count - trivial
            return 100.0 * (self._same - trivial) / rest if rest else 100.0
        pairs = ((self._same, self._count), (self._same_first, self._rows))
        return min(100.0 * same / count if count else 100.0 for same, count in pairs)

    def _trivial(self) -> int:
        """Agreement on a class that hides the others."""
        if not self._seen:
            return 0
        value, most = self._seen.most_common(1)[0]
        return self._agreed[value] if most > self._limit * self._count else 0


def _counts(x: Array) -> dict[int, int]:
    values, counts = np.unique(x, return_counts=True)
    return dict(zip(map(int, values), map(int, counts), strict=True))


def _rows(x: Array, by_sample: bool) -> Counter[object]:
    """How often each index occurs in each row; or, if rows were added or removed, how often each row occurs."""
    x = np.atleast_1d(x)
    if by_sample:
        flat: NDArray[np.int64] = x.reshape(-1, x.shape[-1])
        return Counter((number, int(v)) for number, row in enumerate(flat) for v in row)
    return Counter(map(tuple, x.reshape(len(x), -1).tolist()))


def overlap_judge(spec: OutputSpec) -> BoxOverlap | MaskOverlap:
    """Boxes are compared as boxes, anything else as masks."""
    return BoxOverlap() if spec.kind == BOXES else MaskOverlap()
