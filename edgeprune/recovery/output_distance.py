"""How a student's outputs are weighed against its teacher's: the output error's quadratic form, element by element.

The same as :mod:`edgeprune.recovery.output_error` says of boxes and scores: differences are relative to a channel's
variance over the samples, rare channels between 0 and 1 are scores, and what else a position says counts as much as its
best score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RARE = 0.02
"""Scores are mostly lower."""

SILENT = 1e-12
"""A channel of less than this share of the liveliest one's variance says nothing."""


@dataclass(frozen=True, eq=False)
class OutputWeights:
    """What is known of a teacher's outputs.

    Attributes:
        scores: output name -> shape (channels,), which of them are scores.
        share: output name -> shape (channels,), factor of a channel's weighted squared error of one sample.
    """

    scores: Mapping[str, NDArray[np.bool_]]
    share: Mapping[str, Floats]

    def factors(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """For every element of a batch's outputs, what its squared difference counts."""
        flat = {name: by_position(x) for name, x in outputs.items()}
        best = _best_scores(flat, self.scores)
        found = {}
        for name, x in flat.items():
            factor = np.broadcast_to(self.share[name] / len(x), x.shape).copy()
            weight = best.get(x.shape[1])
            if weight is not None:
                factor[:, :, ~self.scores[name]] *= weight[:, :, None]
            found[name] = _restored(factor, outputs[name].shape).astype(np.float32)
        return found


def learn_weights(batches: Sequence[Mapping[str, NDArray[Any]]]) -> OutputWeights:
    """Weights from a teacher's outputs on some samples: name -> array (batch, ...), the same names in every batch."""
    names = list(batches[0])
    flat = {name: np.concatenate([by_position(batch[name]) for batch in batches]) for name in names}
    scores = {name: _are_scores(x) for name, x in flat.items()}
    best = _best_scores(flat, scores)
    fields = sum(int(s.any()) + int(not s.all()) for s in scores.values())
    share = {}
    for name, x in flat.items():
        weights = np.ones(x.shape[:2])
        usual = x.mean(axis=0) if len(x) > 1 else x.mean(axis=(0, 1))
        square = (x - usual) ** 2
        signal = np.einsum("spc,sp->c", square, weights) / len(x)
        weight = best.get(x.shape[1])
        if weight is not None and weight.any():
            rest = ~scores[name]
            signal[rest] = np.einsum("spc,sp->c", square[:, :, rest], weight) / len(x)
        share[name] = np.zeros(len(signal))
        for field in (scores[name], ~scores[name]):
            heard = field & (signal > SILENT * max(float(signal[field].max(initial=0)), 1e-30))
            share[name][heard] = 1 / (signal[heard] * int(heard.sum()) * fields)
    return OutputWeights(scores, share)


def by_position(x: NDArray[Any]) -> Floats:
    """Shape (samples, positions, channels), float64; the channels are the shortest axis after the samples."""
    x = x.astype(np.float64)
    if x.ndim < 3:
        return x.reshape(len(x) if x.ndim else 1, 1, -1)
    axis = _channel_axis(x.shape)
    return np.moveaxis(x, axis, -1).reshape(len(x), -1, x.shape[axis])


def _restored(flat: Floats, shape: tuple[int, ...]) -> Floats:
    """The inverse of :func:`by_position`."""
    if len(shape) < 3:
        return flat.reshape(shape)
    axis = _channel_axis(shape)
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.moveaxis(flat.reshape(moved), -1, axis)


def _channel_axis(shape: tuple[int, ...]) -> int:
    return 1 + int(np.argmin(shape[1:]))


def _are_scores(x: Floats) -> NDArray[np.bool_]:
    between = ((x >= 0) & (x <= 1)).all(axis=(0, 1)) & (np.ptp(x, axis=(0, 1)) > 0)
    return np.asarray(between & (np.median(x, axis=(0, 1)) < RARE))


def _best_scores(flat: Mapping[str, Floats], scores: Mapping[str, NDArray[np.bool_]]) -> dict[int, Floats]:
    """Number of positions -> shape (samples, positions), the highest score there; outputs share positions."""
    best: dict[int, Floats] = {}
    for name, x in flat.items():
        if scores[name].any():
            highest, positions = x[:, :, scores[name]].max(axis=2), x.shape[1]
            best[positions] = np.maximum(best[positions], highest) if positions in best else highest
    return best
