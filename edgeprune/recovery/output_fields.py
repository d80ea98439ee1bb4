"""Squared errors of outputs by channel, relative to what the channels vary: every kind but class scores and integers.

Squared error divided by variance, channel by channel. The variance is over the samples at one position. So boxes in
pixels do not outweigh scores, and the fixed position of an anchor on the image does not count as variance of its box.

Channels that lie between 0 and 1, and near 0 at most positions, are scores, for example of a detector. Nobody reads the
other channels at a position with low scores. So the errors of the other channels are weighted by the highest score of
their position, also where scores and boxes are separate outputs over the same positions. In a map, such scores decide
only half of the weight. Scores and other channels each count as one *field*, independent of their numbers of channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeprune.outputs import channel_axis

Array = NDArray[Any]
K = TypeVar("K")

RARE = 0.02
"""The median of a score is lower: few positions show anything. Boxes relative to the image are not so small."""

SILENT = 1e-12
"""Channels with less than this share of the largest channel variance are ignored."""

LEAST_VARIED = 1e-4
"""A channel varies by at least this share of its energy: a constant need not be exact to more than 1%."""


@dataclass(frozen=True, eq=False)
class Field:
    """Channels of one output whose errors are averaged together.

    Attributes:
        index: number of the output.
        reference: shape (samples, channels of the output, positions).
        channels: which channels of the output are in the field; shape (channels of the output,).
        weights: weights of the positions, shape (samples, positions).
        signal: weighted variation of each channel of the field; shape (channels of the field,), float64.
    """

    index: int
    reference: Array
    channels: NDArray[np.bool_]
    weights: NDArray[np.float64]
    signal: NDArray[np.float64]

    @classmethod
    def of(cls, index: int, a: Array, channels: NDArray[np.bool_], weights: Array | None) -> Field:
        """The field of some channels of an output."""
        used = np.ones((len(a), a.shape[2])) if weights is None or not weights.any() else weights.astype(np.float64)
        # One sample has no variance over samples: then the variance over all positions is used.
        axes = 0 if len(a) > 1 else (0, 2)
        usual = a.mean(axis=axes, dtype=np.float64).reshape(a.shape[1], -1)
        if a.shape[0] * a.shape[2] == 1:  # a single value for each channel: then its own size is used
            usual = np.zeros_like(usual)
        varied = _energy((x - usual for x in a), used, channels)
        return cls(index, a, channels, used, np.maximum(varied, LEAST_VARIED * _energy(iter(a), used, channels)))

    def error(self, output: Array) -> float:
        """Squared error divided by variance, averaged over the channels that are not constant."""
        differences = (x.astype(np.float64) - y for x, y in zip(self.reference, output, strict=True))
        noise = _energy(differences, self.weights, self.channels)
        counted = self.signal > SILENT * max(float(self.signal.max(initial=0)), 1e-30)
        return float((noise[counted] / self.signal[counted]).mean()) if counted.any() else 0.0


def _energy(
    samples: Iterable[NDArray[np.float64]], weights: NDArray[np.float64], channels: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Weighted sum of squares of each of the channels; samples have shape (channels of the output, positions)."""
    total = np.zeros(int(channels.sum()))
    for x, w in zip(samples, weights, strict=True):
        mine = x if channels.all() else x[channels]
        total += np.square(mine) @ w
    return total


def fields(outputs: Mapping[int, Array]) -> list[Field]:
    """The fields of outputs by their numbers."""
    flat = {i: by_channel(x) for i, x in outputs.items()}
    scored = {i: are_scores(a) for i, a in flat.items()}
    best = best_scores(flat, scored)
    found = []
    for i, a in flat.items():
        if scored[i].any():
            found.append(Field.of(i, a, scored[i], None))
        if not scored[i].all():
            weights = best.get(a.shape[2])
            found.append(Field.of(i, a, ~scored[i], read_everywhere(weights) if is_map(outputs[i]) else weights))
    return found


def is_map(x: Array) -> bool:
    """Whether an output has its positions on more than one axis, as an image has."""
    return x.ndim > 3


def read_everywhere(best: Array | None) -> Array | None:
    """Weights of the positions of a map beside scores, half of them by the scores; None without scores.

    A depth map beside a rare mask is read everywhere, and the sizes beside a heat map only where it is high.
    """
    return None if best is None else best + best.mean()


def are_scores(x: Array) -> NDArray[np.bool_]:
    """Which channels of an output of shape (samples, channels, positions) are scores: shape (channels,)."""
    between = ((x >= 0) & (x <= 1)).all(axis=(0, 2)) & (np.ptp(x, axis=(0, 2)) > 0)
    if between.any():  # a median is slow: compute it only where it decides
        between[between] = np.median(x[:, between], axis=(0, 2)) < RARE
    return np.asarray(between)


def best_scores(outputs: Mapping[K, Array], scores: Mapping[K, NDArray[np.bool_]]) -> dict[int, Array]:
    """Number of positions -> highest score at each, shape (samples, positions).

    Outputs of the same number of positions share their scores; an output without positions has none for others.
    """
    best: dict[int, Array] = {}
    for key, x in outputs.items():
        if scores[key].any() and x.shape[2] > 1:
            highest, positions = x[:, scores[key]].max(axis=1), x.shape[2]
            best[positions] = np.maximum(best[positions], highest) if positions in best else highest
    return best


def by_channel(x: Array) -> Array:
    """Shape (samples, channels, positions)."""
    if x.ndim < 3:
        return x.reshape(len(x), x[0].size if len(x) else 0, 1)
    moved = np.moveaxis(x, channel_axis(x.shape), 1)
    return moved.reshape(*moved.shape[:2], int(np.prod(moved.shape[2:])))
