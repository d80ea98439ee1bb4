"""How far a changed network's outputs are from the original's: the loss that every decision is weighed by.

Per output, without labels:

* class scores: mean KL divergence of the softmax over the last axis, nats (the distillation loss of Hinton et al. 2015
  at temperature 1);
* anything else: squared error over variance, channel by channel, averaged over the channels, so that boxes in pixels
  do not drown class scores;

and the outputs' errors are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.calibrate import Calibration
from edgeprune.errors import CalibrationError
from edgeprune.evaluate import is_classifier

Array = NDArray[Any]

WORST = 1e3
"""Stands for outputs that are not finite."""


class Probe:
    """A few samples with the original's outputs on them, against which changed networks are scored."""

    def __init__(self, model: ir.Model, data: Calibration, items: int, threads: int):
        self._threads = threads
        self._feeds = [dict(feeds) for feeds in data.subset(items).batches()]
        if not self._feeds:
            raise CalibrationError(f"{data.describe()}: there is nothing to probe the model with")
        self._reference = self._outputs(model)

    def error(self, model: ir.Model) -> float:
        """The changed network's error, unitless, 0 for the original itself."""
        return output_error(self._reference, self._outputs(model))

    def _outputs(self, model: ir.Model) -> list[Array]:
        runner = OnnxRuntime(self._threads).load(model)
        batches = [runner.run(feeds) for feeds in self._feeds]
        return [np.concatenate([np.atleast_1d(o) for o in outputs]) for outputs in zip(*batches, strict=True)]


def output_error(reference: Sequence[Array], outputs: Sequence[Array]) -> float:
    """Error of ``outputs`` against ``reference``, lists of arrays whose first axis is the samples."""
    errors = [
        _divergence(a, b) if is_classifier(a) else _relative_error(a, b)
        for a, b in zip(reference, outputs, strict=True)
        if a.dtype.kind == "f"
    ]
    return float(np.mean(errors)) if errors else 0.0


def _divergence(reference: Array, output: Array) -> float:
    if reference.shape != output.shape or not np.isfinite(output).all():
        return WORST
    p, q = _log_softmax(reference), _log_softmax(output)
    return float((np.exp(p) * (p - q)).sum(axis=-1).mean())


def _log_softmax(scores: Array) -> NDArray[np.float64]:
    x = scores.astype(np.float64)
    if (x >= 0).all() and np.abs(x.sum(axis=-1) - 1).max(initial=0) < 1e-2:
        return np.asarray(np.log(np.maximum(x, 1e-12)))
    x = x - x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))


def _relative_error(reference: Array, output: Array) -> float:
    if reference.shape != output.shape:
        return WORST  # a data-dependent size changed, such as the number of detections
    a, b = reference.astype(np.float64), output.astype(np.float64)
    if not np.isfinite(b).all():
        return WORST
    axis = 1 + int(np.argmin(a.shape[1:])) if a.ndim > 2 else a.ndim - 1
    others = tuple(i for i in range(a.ndim) if i != axis)
    noise, signal = ((a - b) ** 2).mean(axis=others), a.var(axis=others)
    heard = signal > 1e-12 * max(float(np.max(signal)), 1e-30)
    return float((noise[heard] / signal[heard]).mean()) if heard.any() else 0.0
