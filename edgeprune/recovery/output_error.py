"""How far a changed network's outputs are from the original's: the loss behind every decision, without labels.

For each output:

* class scores: mean KL divergence of the softmax over the last axis, nats (the distillation loss of Hinton et al. 2015
  at temperature 1);
* anything else: squared error divided by variance, channel by channel. The variance is over the samples at one
  position. So boxes in pixels do not outweigh scores, and the fixed position of an anchor on the image does not count
  as variance of its box.

Channels that lie between 0 and 1, and near 0 at most positions, are scores, for example of a detector. Nobody reads the
other channels at a position with low scores. So the errors of the other channels are weighted by the highest score of
their position, also where scores and boxes are separate outputs over the same positions. Scores and other channels each
count as one *field*, independent of their numbers of channels; the errors of the fields are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, PartialRuns, is_classifier
from edgeprune.errors import CalibrationError

Array = NDArray[Any]
K = TypeVar("K")

WORST = 1e3
"""The error of outputs that are not finite."""

BATCH_ITEMS = 8
"""Large enough for onnxruntime to run at full speed, small enough that all cores get batches."""

FOLDS = 16
"""Groups of samples that are left out in turn to estimate the standard error of a difference."""

RARE = 0.02
"""The median of a score is lower: few positions show anything. Boxes relative to the image are not so small."""

SILENT = 1e-12
"""Channels with less than this share of the largest channel variance are ignored."""

_LEAST = 1e-12
"""A smaller probability counts as this."""


class Probe:
    """A few samples and the original's outputs on them, against which changed networks are scored."""

    def __init__(self, model: ir.Model, data: Calibration, items: int, threads: int):
        self._data = data
        self._feeds = [dict(feeds) for feeds in data.subset(items).batches(BATCH_ITEMS)]
        if not self._feeds:
            raise CalibrationError(f"{data.describe()}: there are no samples to score the model on")
        self._runs = PartialRuns(model, self._feeds, threads, axes=data.axes.outputs)
        self._outputs = self._runs.reference
        self._reference = Reference(self._outputs)

    @property
    def items(self) -> int:
        """How many samples there are."""
        return sum(map(self._data.rows, self._feeds))

    def error(self, model: ir.Model) -> float:
        """The changed network's error, unitless, 0 for the original itself."""
        return self._reference.error(self._runs.outputs(model))

    def difference(self, model: ir.Model, other: ir.Model) -> tuple[float, float]:
        """How much larger a network's error is than another's, and the standard error of that over the samples.

        By the jackknife (Efron & Stein 1981) over at most ``FOLDS`` groups of samples; infinite for a single sample.
        """
        outputs = self._runs.outputs(model), self._runs.outputs(other)
        count = min([FOLDS, *(len(r) for r in self._outputs)])
        group = [np.arange(len(r)) * count // len(r) for r in self._outputs]

        def gap(left_out: int) -> float:
            stay = [g != left_out for g in group]
            reference = Reference([x[s] for x, s in zip(self._outputs, stay, strict=True)])
            one, two = (reference.error([x[s] for x, s in zip(found, stay, strict=True)]) for found in outputs)
            return one - two

        if count < 2 or any(len(a) != len(b) for part in outputs for a, b in zip(part, self._outputs, strict=True)):
            return gap(-1), float("inf")
        without = np.array([gap(i) for i in range(count)])
        return gap(-1), float(np.sqrt((count - 1) * without.var()))

    def is_worse(self, model: ir.Model, other: ir.Model) -> bool:
        """Whether a network's error is larger than another's by more than the standard error of the difference."""
        gap, error = self.difference(model, other)
        return gap > (error if np.isfinite(error) else 0.0)


def output_error(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Error of ``outputs`` against ``reference``, lists of arrays whose first axis is the samples."""
    return Reference(reference).error(outputs)


class Reference:
    """The outputs that others are compared with, and the statistics that follow from them alone."""

    def __init__(self, outputs: Sequence[Array]) -> None:
        self._outputs = outputs
        floats = [i for i, a in enumerate(outputs) if a.dtype.kind == "f"]
        self._classes = [i for i in floats if is_classifier(outputs[i])]
        self._fields = _fields({i: by_channel(outputs[i]) for i in floats if i not in self._classes})

    def error(self, outputs: Sequence[Array]) -> float:
        """Error of a changed network's outputs; see the module's docstring."""
        pairs = [(a, b) for a, b in zip(self._outputs, outputs, strict=True) if a.dtype.kind == "f"]
        if any(a.shape != b.shape or not np.isfinite(b).all() for a, b in pairs):
            return WORST  # also where a size that depends on the data has changed, such as the number of detections
        errors = [_divergence(self._outputs[i], outputs[i]) for i in self._classes]
        errors += [field.error(by_channel(outputs[field.index])) for field in self._fields]
        return float(np.mean(errors)) if errors else 0.0


@dataclass(frozen=True, eq=False)
class _Field:
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
    def of(cls, index: int, a: Array, channels: NDArray[np.bool_], weights: Array | None) -> _Field:
        """The field of some channels of an output."""
        used = np.ones((len(a), a.shape[2])) if weights is None or not weights.any() else weights.astype(np.float64)
        # One sample has no variance over samples: then the variance over all positions is used.
        axes = 0 if len(a) > 1 else (0, 2)
        usual = a.mean(axis=axes, dtype=np.float64).reshape(a.shape[1], -1)
        return cls(index, a, channels, used, _energy((x - usual for x in a), used, channels))

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


def _fields(outputs: Mapping[int, Array]) -> list[_Field]:
    scored = {i: are_scores(a) for i, a in outputs.items()}
    best = best_scores(outputs, scored)
    found = []
    for i, a in outputs.items():
        if scored[i].any():
            found.append(_Field.of(i, a, scored[i], None))
        if not scored[i].all():
            found.append(_Field.of(i, a, ~scored[i], best.get(a.shape[2])))
    return found


def are_scores(x: Array) -> NDArray[np.bool_]:
    """Which channels of an output of shape (samples, channels, positions) are scores: shape (channels,)."""
    between = ((x >= 0) & (x <= 1)).all(axis=(0, 2)) & (np.ptp(x, axis=(0, 2)) > 0)
    if between.any():  # a median is slow: compute it only where it decides
        between[between] = np.median(x[:, between], axis=(0, 2)) < RARE
    return np.asarray(between)


def best_scores(outputs: Mapping[K, Array], scores: Mapping[K, NDArray[np.bool_]]) -> dict[int, Array]:
    """Number of positions -> highest score at each, shape (samples, positions).

    Outputs of the same number of positions share their scores.
    """
    best: dict[int, Array] = {}
    for key, x in outputs.items():
        if scores[key].any():
            highest, positions = x[:, scores[key]].max(axis=1), x.shape[2]
            best[positions] = np.maximum(best[positions], highest) if positions in best else highest
    return best


def by_channel(x: Array) -> Array:
    """Shape (samples, channels, positions)."""
    if x.ndim < 3:
        return x.reshape(len(x), x[0].size if len(x) else 0, 1)
    moved = np.moveaxis(x, channel_axis(x.shape), 1)
    return moved.reshape(*moved.shape[:2], int(np.prod(moved.shape[2:])))


def channel_axis(shape: tuple[int, ...]) -> int:
    """The channels are the shortest axis after the samples."""
    return 1 + int(np.argmin(shape[1:]))


def _divergence(reference: Array, output: Array) -> float:
    if _are_probabilities(reference) and _are_probabilities(output):
        p, q = (np.maximum(x.astype(np.promote_types(x.dtype, np.float32)), _LEAST) for x in (reference, output))
        return float((p * np.log(p / q)).sum(axis=-1, dtype=np.float64).mean())
    log_p, log_q = _log_softmax(reference), _log_softmax(output)
    return float((np.exp(log_p) * (log_p - log_q)).sum(axis=-1).mean())


def _are_probabilities(x: Array) -> bool:
    return bool((x >= 0).all() and np.abs(x.sum(axis=-1, dtype=np.float64) - 1).max(initial=0) < 1e-2)


def _log_softmax(scores: Array) -> NDArray[np.float64]:
    x = scores.astype(np.float64)
    if _are_probabilities(x):
        return np.asarray(np.log(np.maximum(x, _LEAST)))
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))
