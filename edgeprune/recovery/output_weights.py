"""How a student's outputs are weighted against its teacher's: one factor for the squared difference of every element.

The weighted sum is the error of :mod:`edgeprune.recovery.output_error` for boxes and scores, as a quadratic form:
differences are relative to a channel's variance over the samples, and the other channels of a position count as much as
its highest score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import samples_first
from edgeprune.outputs import channel_axis
from edgeprune.recovery.output_fields import (
    LEAST_VARIED,
    SILENT,
    are_scores,
    best_scores,
    by_channel,
    is_map,
    read_everywhere,
)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutputWeights:
    """Statistics of a teacher's outputs, from which the factors follow.

    Attributes:
        scores: output name -> shape (channels,), which channels are scores.
        share: output name -> shape (channels,), factor of a channel's weighted squared error of one sample.
        axes: output name -> the axis of its samples; an output that is missing is one sample.
    """

    scores: Mapping[str, NDArray[np.bool_]]
    share: Mapping[str, Floats]
    axes: Mapping[str, int]

    def factors(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """The factor of every element of a batch's outputs."""
        first = {name: samples_first([x], self.axes.get(name)) for name, x in outputs.items()}
        flat = {name: _by_position(x) for name, x in first.items()}
        best = _best_scores(flat, self.scores)
        found = {}
        for name, x in flat.items():
            factor = np.broadcast_to(self.share[name] / len(x), x.shape).copy()
            weight = _weight(best, first[name], x)
            if weight is not None:
                factor[:, :, ~self.scores[name]] *= weight[:, :, None]
            placed, axis = _restored(factor, first[name].shape), self.axes.get(name)
            placed = placed[0] if axis is None else np.moveaxis(placed, 0, axis)
            found[name] = np.ascontiguousarray(placed.reshape(outputs[name].shape), np.float32)
        return found


def learn_weights(
    batches: Sequence[Mapping[str, NDArray[Any]]],
    shares: Mapping[str, float] | None = None,
    axes: Mapping[str, int] | None = None,
) -> OutputWeights:
    """Weights from a teacher's outputs on some samples.

    Args:
        batches: name -> array, the same names in every batch.
        shares: name -> share of the error of all outputs; equal shares by default.
        axes: name -> the axis of the samples, by default the first; an output that is missing is one sample.
    """
    axes = dict.fromkeys(batches[0], 0) if axes is None else axes
    first = {name: samples_first([batch[name] for batch in batches], axes.get(name)) for name in batches[0]}
    flat = {name: _by_position(x) for name, x in first.items()}
    scores = {name: are_scores(x.swapaxes(1, 2)) for name, x in flat.items()}
    best = _best_scores(flat, scores)
    fields = {name: int(s.any()) + int(not s.all()) for name, s in scores.items()}
    parts = {name: (1.0 if shares is None else shares[name]) for name in flat}
    total = sum(parts.values()) or 1.0
    share = {}
    for name, x in flat.items():
        weights = np.ones(x.shape[:2])
        usual = x.mean(axis=0) if len(x) > 1 else x.mean(axis=(0, 1)) * (x.shape[1] > 1)
        square = (x - usual) ** 2
        signal = _signal(square, x, weights)
        weight = _weight(best, first[name], x)
        if weight is not None and weight.any():
            rest = ~scores[name]
            signal[rest] = _signal(square[:, :, rest], x[:, :, rest], weight)
        share[name] = np.zeros(len(signal))
        for field in (scores[name], ~scores[name]):
            counted = field & (signal > SILENT * max(float(signal[field].max(initial=0)), 1e-30))
            share[name][counted] = 1 / (signal[counted] * int(counted.sum()) * fields[name]) * parts[name] / total
    return OutputWeights(scores, share, axes)


def _signal(varied: Floats, x: Floats, weights: NDArray[Any]) -> Floats:
    """Weighted variation of each channel for each sample, shape (channels,)."""
    energies = [np.einsum("spc,sp->c", values, weights) / len(x) for values in (varied, x**2)]
    return np.asarray(np.maximum(energies[0], LEAST_VARIED * energies[1]))


def _weight(best: Mapping[int, NDArray[Any]], output: NDArray[Any], flat: Floats) -> NDArray[Any] | None:
    """Weights of the positions of an output, as in :mod:`edgeprune.recovery.output_fields`."""
    weight = best.get(flat.shape[1])
    return read_everywhere(weight) if is_map(output) else weight


def _by_position(x: NDArray[Any]) -> Floats:
    """Shape (samples, positions, channels), float64."""
    return np.ascontiguousarray(by_channel(np.atleast_1d(x).astype(np.float64)).swapaxes(1, 2))


def _restored(flat: Floats, shape: tuple[int, ...]) -> Floats:
    """The inverse of :func:`_by_position`."""
    if len(shape) < 3:
        return flat.reshape(shape)
    axis = channel_axis(shape)
    moved = (*shape[:axis], *shape[axis + 1 :], shape[axis])
    return np.moveaxis(flat.reshape(moved), -1, axis)


def _best_scores(flat: Mapping[str, Floats], scores: Mapping[str, NDArray[np.bool_]]) -> dict[int, NDArray[Any]]:
    return best_scores({name: x.swapaxes(1, 2) for name, x in flat.items()}, scores)
