"""Cosine similarity of embeddings about their mean.

Embeddings often share a large constant direction, so that those of any two images are similar. The mean over the
original's samples is subtracted first: then 0% says that an embedding is no nearer to its own than to another image's.
"""

from __future__ import annotations

import numpy as np

from edgeprune.outputs.output_spec import Array

LARGEST = 1 << 16
"""Longer vectors are compared as they are: their mean is not worth the memory."""


class Cosine:
    """Mean cosine similarity in percent, over the vectors of all samples."""

    def __init__(self) -> None:
        self._pairs: list[tuple[Array, Array]] = []
        self._sum, self._count = 0.0, 0

    def add(self, wanted: Array, got: Array) -> None:
        """Compare the vectors of one batch: one vector for each sample."""
        one, other = (x.reshape(len(np.atleast_1d(x)), -1).astype(np.float64) for x in (wanted, got))
        if one.shape[1] <= LARGEST:
            self._pairs.append((one, other))
        else:
            self._include(one, other)

    def score(self) -> float:
        """Percent; -100 is opposite."""
        if self._pairs:
            one, other = (np.concatenate(part) for part in zip(*self._pairs, strict=True))
            self._pairs = []
            mean = one.mean(axis=0) if len(one) > 1 else 0.0
            if np.allclose(one - mean, 0):
                mean = 0.0
            self._include(one - mean, other - mean)
        return 100.0 * self._sum / self._count if self._count else 100.0

    def _include(self, one: Array, other: Array) -> None:
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        both_zero = ~one.any(axis=1) & ~other.any(axis=1)
        self._sum += float(np.where(both_zero, 1.0, np.nan_to_num(cosine, nan=0.0)).sum())
        self._count += len(one)
