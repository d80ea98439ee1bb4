"""How far a changed network's outputs are from the original's: the loss that every decision is weighed by.

Per output, without labels:

* class scores: mean KL divergence of the softmax over the last axis, nats (the distillation loss of Hinton et al. 2015
  at temperature 1);
* anything else: squared error over variance, channel by channel. The variance is that over the samples at one position:
  what a constant answer could not know. So boxes in pixels do not drown scores, and where on the image an anchor lies
  does not count as knowledge of its box.

Channels between 0 and 1, and nearly 0 at most positions, are scores, of a detector say. What else is said at a position
with low scores is never read: errors of the other channels are weighted by the highest score of their position, also
where scores and boxes are separate outputs over the same positions. Scores and the rest each count as one *field*,
whatever their numbers of channels; the fields' errors are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.ahead import side_by_side
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibrate import Calibration
from edgeprune.errors import CalibrationError
from edgeprune.evaluate import is_classifier

Array = NDArray[Any]

WORST = 1e3
"""Stands for outputs that are not finite."""

BATCH_ITEMS = 8
"""Enough for onnxruntime to be at its best, few enough for all cores to have some."""

FOLDS = 16
"""Groups of samples that are left out in turn to see how sure a difference is."""

_RARE = 0.02
"""Most scores are lower: few positions show anything. Boxes relative to the image are not so small."""

_LEAST = 1e-12
"""A smaller probability counts as this."""

_SILENT = 1e-12
"""A channel of less than this share of the liveliest one's variance says nothing."""


class Probe:
    """A few samples with the original's outputs on them, against which changed networks are scored."""

    def __init__(self, model: ir.Model, data: Calibration, items: int, threads: int):
        self._threads = threads
        self._feeds = [dict(feeds) for feeds in data.subset(items).batches(BATCH_ITEMS)]
        if not self._feeds:
            raise CalibrationError(f"{data.describe()}: there is nothing to probe the model with")
        self._reference = self._outputs(model)

    @property
    def items(self) -> int:
        """How many samples there are."""
        return sum(len(next(iter(feeds.values()))) for feeds in self._feeds)

    def error(self, model: ir.Model) -> float:
        """The changed network's error, unitless, 0 for the original itself."""
        return output_error(self._reference, self._outputs(model))

    def difference(self, model: ir.Model, other: ir.Model) -> tuple[float, float]:
        """How much larger a network's error is than another's, and the standard error of that over the samples.

        By the jackknife (Efron & Stein 1981) over at most ``FOLDS`` groups of samples; infinite for a single sample.
        """
        outputs = self._outputs(model), self._outputs(other)
        count = min([FOLDS, *(len(r) for r in self._reference)])
        group = [np.arange(len(r)) * count // len(r) for r in self._reference]

        def gap(left_out: int) -> float:
            stay = [g != left_out for g in group]
            one, two = (
                output_error(*([x[s] for x, s in zip(part, stay, strict=True)] for part in (self._reference, found)))
                for found in outputs
            )
            return one - two

        if count < 2 or any(len(a) != len(b) for part in outputs for a, b in zip(part, self._reference, strict=True)):
            return gap(-1), float("inf")
        without = np.array([gap(i) for i in range(count)])
        return gap(-1), float(np.sqrt((count - 1) * without.var()))

    def is_worse(self, model: ir.Model, other: ir.Model) -> bool:
        """Whether the samples show a network's error to be larger than another's, by more than they leave open."""
        gap, error = self.difference(model, other)
        return gap > (error if np.isfinite(error) else 0.0)

    def _outputs(self, model: ir.Model) -> list[Array]:
        runner = OnnxRuntime(self._threads).load(model)
        batches = side_by_side(runner.run, self._feeds, self._threads)
        return [np.concatenate([np.atleast_1d(o) for o in outputs]) for outputs in zip(*batches, strict=True)]


@dataclass(frozen=True, eq=False)
class _Field:
    """Channels that are judged together: arrays of shape (samples, positions, channels); weights (samples, positions).

    ``reference`` and ``output`` are float64.
    """

    reference: Array
    output: Array
    weights: Array | None


def output_error(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Error of ``outputs`` against ``reference``, lists of arrays whose first axis is the samples."""
    pairs = [(a, b) for a, b in zip(reference, outputs, strict=True) if a.dtype.kind == "f"]
    if any(a.shape != b.shape or not np.isfinite(b).all() for a, b in pairs):
        return WORST  # also where a size depends on the data and has changed, such as the number of detections
    errors = [_divergence(a, b) for a, b in pairs if is_classifier(a)]
    errors += [_relative_error(field) for field in _fields([p for p in pairs if not is_classifier(p[0])])]
    return float(np.mean(errors)) if errors else 0.0


def _fields(pairs: Sequence[tuple[Array, Array]]) -> list[_Field]:
    flat = [(_by_position(a), _by_position(b)) for a, b in pairs]
    scored = [_are_scores(a) for a, _ in flat]
    # By the number of positions: outputs over the same positions share the scores.
    best: dict[int, Array] = {}
    for (a, _), scores in zip(flat, scored, strict=True):
        if scores.any():
            highest, positions = a[:, :, scores].max(axis=2), a.shape[1]
            best[positions] = np.maximum(best[positions], highest) if positions in best else highest
    found = []
    for (a, b), scores in zip(flat, scored, strict=True):
        if scores.any():
            found.append(_Field(a[:, :, scores], b[:, :, scores], None))
        if not scores.all():
            found.append(_Field(a[:, :, ~scores], b[:, :, ~scores], best.get(a.shape[1])))
    return found


def _are_scores(x: Array) -> NDArray[np.bool_]:
    """Which channels are scores: shape (channels,)."""
    between = ((x >= 0) & (x <= 1)).all(axis=(0, 1)) & (np.ptp(x, axis=(0, 1)) > 0)
    return np.asarray(between & (np.median(x, axis=(0, 1)) < _RARE))


def _by_position(x: Array) -> Array:
    """Shape (samples, positions, channels), float64; the channels are the shortest axis after the samples."""
    x = x.astype(np.float64)
    if x.ndim < 3:
        return x.reshape(len(x), 1, -1)
    channel = 1 + int(np.argmin(x.shape[1:]))
    return np.moveaxis(x, channel, -1).reshape(len(x), -1, x.shape[channel])


def _relative_error(field: _Field) -> float:
    a, b = field.reference, field.output
    weights = np.ones(a.shape[:2]) if field.weights is None or not field.weights.any() else field.weights
    noise = np.einsum("spc,sp->c", (a - b) ** 2, weights)
    # One sample has no variance over samples; all positions together stand in for it.
    usual = a.mean(axis=0) if len(a) > 1 else a.mean(axis=(0, 1))
    signal = np.einsum("spc,sp->c", (a - usual) ** 2, weights)
    heard = signal > _SILENT * max(float(signal.max(initial=0)), 1e-30)
    return float((noise[heard] / signal[heard]).mean()) if heard.any() else 0.0


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
