"""Agreement of the predicted classes: by sample, by step of a sequence, or by pixel.

Where one class is nearly everywhere (the blank between letters, the background of a map), agreement on it hides
everything else. So positions where both models predict the most frequent class are left out if that class holds more
than a limit of all positions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs.output_spec import CLASS_MAP, SEQUENCE, Array, OutputSpec

MOST_FREQUENT = {SEQUENCE: 0.5, CLASS_MAP: 0.9}
"""Kind -> share of the positions above which the most frequent class is left out."""


class ClassAgreement:
    """Percent of positions at which the class with the highest score is the same."""

    def __init__(self, spec: OutputSpec):
        self._axis, self._limit = spec.axis, MOST_FREQUENT.get(spec.kind, 1.0)
        self._same = self._count = np.zeros(0, np.int64)

    def add(self, wanted: Array, got: Array) -> None:
        """Compare the scores of one batch; a position without scores, such as a lost row, has no class."""
        classes = wanted.shape[self._axis]
        one, other = (nan_last(x).argmax(axis=self._axis).reshape(-1) for x in (wanted, got))
        scored, also = (x.any(axis=self._axis).reshape(-1) for x in (wanted, got))
        same = (one == other) & (scored == also)
        self._same = _sum(self._same, np.bincount(one[same], minlength=classes))
        self._count = _sum(self._count, np.bincount(one, minlength=classes))

    @property
    def is_blind(self) -> bool:
        """Whether there is nothing to compare beside the most frequent class."""
        return not self._rest()[0]

    def score(self) -> float:
        """Percent; 100 if there is nothing to compare."""
        total, hits = self._rest()
        return 100.0 * hits / total if total else 100.0

    def _rest(self) -> tuple[int, int]:
        """Positions and hits, without those of a class that hides the others."""
        total, hits = int(self._count.sum()), int(self._same.sum())
        if total and self._count.max() > self._limit * total:
            trivial = int(self._same[self._count.argmax()])
            return total - trivial, hits - trivial
        return total, hits


def nan_last(scores: Array) -> Array:
    """Scores with NaN as the lowest value: argmax would return its index."""
    return np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if scores.dtype.kind == "f" else scores


def _sum(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    return one + other if len(one) else other
