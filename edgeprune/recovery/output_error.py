"""How far a changed network's outputs are from the original's: the loss behind every decision, without labels.

Every output counts as what it is (`edgeprune.outputs`):

* class scores, of a sample or of every step: mean KL divergence of the softmax over the classes, nats (the distillation
  loss of Hinton et al. 2015 at temperature 1);
* integers: the share that differs. Those that a TopK or an ArgMax at the end gives are compared by the floats that it
  chooses from, and so are sorted rows: see `edgeprune.outputs.choices`;
* anything else: squared error divided by variance, see `edgeprune.recovery.output_fields`. That holds for class scores,
  too, whose class is the same on all samples: their softmax does not see a change of the values.

The error is the mean over the outputs with their weights, which are equal by default, so that none vanishes. Within an
output the errors of its fields are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, PartialRuns, open_comparable
from edgeprune.errors import CalibrationError
from edgeprune.outputs import (
    CLASS_MAP,
    TOP1,
    Outputs,
    OutputSpec,
    find_outputs,
    outputs_of_values,
    sum_to_one,
)
from edgeprune.recovery.output_fields import by_channel, fields
from edgeprune.support import release_memory

Array = NDArray[Any]

WORST = 1e3
"""The error of outputs that are not finite."""

BATCH_ITEMS = 8
"""Most samples in a batch: enough for onnxruntime to run at full speed. There are at least two batches, so that two
cores are busy."""

FOLDS = 16
"""Groups of samples that are left out in turn to estimate the standard error of a difference."""

_LEAST = 1e-12
"""A smaller probability counts as this."""


class Probe:
    """A few samples and the original's outputs on them, against which changed networks are scored."""

    def __init__(self, model: ir.Model, data: Calibration, items: int, threads: int):
        self._comparable = open_comparable(model, data)
        model, data = self._comparable.of(model), self._comparable.data(data)
        self._data = data
        few = data.subset(items)
        self._feeds = [dict(feeds) for feeds in few.batches(min(BATCH_ITEMS, -(-few.items // 2)))]
        if not self._feeds:
            raise CalibrationError(f"{data.describe()}: there are no samples to score the model on")
        self._runs = PartialRuns(model, self._feeds, threads, axes=data.axes.outputs)
        self._outputs = self._runs.reference
        kinds = data.outputs
        if kinds is None or kinds.names != tuple(str(o.name) for o in model.graph.outputs):
            kinds = find_outputs(model, [self._outputs])
        self._kinds = kinds
        self._reference = Reference(self._outputs, kinds)

    @property
    def items(self) -> int:
        """How many samples there are."""
        return sum(map(self._data.rows, self._feeds))

    def error(self, model: ir.Model) -> float:
        """The changed network's error, unitless, 0 for the original itself."""
        found = self._reference.error(self._outputs_of(model))
        release_memory()  # of the networks of earlier trials
        return found

    def forget(self) -> None:
        """Give up the original's inner values, which serve trials in the order of the graph."""
        self._runs.forget()

    def difference(self, model: ir.Model, other: ir.Model) -> tuple[float, float]:
        """How much larger a network's error is than another's, and the standard error of that over the samples.

        By the jackknife (Efron & Stein 1981) over at most ``FOLDS`` groups of samples; infinite for a single sample.
        An output whose samples differ in size is a row of numbers, of which each group takes a share.
        """
        outputs = self._outputs_of(model), self._outputs_of(other)
        count = min([FOLDS, self.items, *(len(r) for r in self._outputs)])
        group = [np.arange(len(r)) * count // len(r) for r in self._outputs]

        def gap(left_out: int) -> float:
            stay = [g != left_out for g in group]
            reference = Reference([x[s] for x, s in zip(self._outputs, stay, strict=True)], self._kinds)
            one, two = (reference.error([x[s] for x, s in zip(found, stay, strict=True)]) for found in outputs)
            return one - two

        if count < 2 or any(len(a) != len(b) for part in outputs for a, b in zip(part, self._outputs, strict=True)):
            return gap(-1), float("inf")
        without = np.array([gap(i) for i in range(count)])
        return gap(-1), float(np.sqrt((count - 1) * without.var()))

    def _outputs_of(self, model: ir.Model) -> list[Array]:
        return self._runs.outputs(self._comparable.of(model))

    def is_worse(self, model: ir.Model, other: ir.Model) -> bool:
        """Whether a network's error is larger than another's by more than the standard error of the difference."""
        gap, error = self.difference(model, other)
        return gap > (error if np.isfinite(error) else 0.0)


def output_error(reference: Sequence[Array], outputs: Sequence[Array], kinds: Outputs | None = None) -> float:
    """Error of ``outputs`` against ``reference``, lists of arrays whose first axis is the samples.

    Args:
        reference: outputs of the original.
        outputs: outputs of the changed network.
        kinds: what the outputs are; by default what their values alone show.
    """
    return Reference(reference, kinds or outputs_of_values(reference)).error(outputs)


class Reference:
    """The outputs that others are compared with, and the statistics that follow from them alone."""

    def __init__(self, outputs: Sequence[Array], kinds: Outputs) -> None:
        self._outputs = outputs
        self._specs = [kinds.spec_of(name) for name in kinds.names]
        self._shares = [kinds.share_of(name) for name in kinds.names]
        counted = [i for i, share in enumerate(self._shares) if share > 0 and outputs[i].size]
        self._floats = [i for i in counted if outputs[i].dtype.kind == "f"]
        self._integers = [i for i in counted if outputs[i].dtype.kind != "f"]
        classes = [i for i in self._floats if has_classes(self._specs[i])]
        self._classes = {i: _Classes.of(outputs[i], self._specs[i].axis) for i in classes}
        self._fields = fields({i: outputs[i] for i in self._floats if i not in self._classes})

    def error(self, outputs: Sequence[Array]) -> float:
        """Error of a changed network's outputs; see the module's docstring."""
        for i in self._floats:
            # The size of an output may depend on the data, such as the number of detections.
            if outputs[i].shape != self._outputs[i].shape or not np.isfinite(outputs[i]).all():
                return WORST
        errors: dict[int, list[float]] = {}
        for i, classes in self._classes.items():
            errors[i] = [classes.divergence(outputs[i])]
        for field in self._fields:
            errors.setdefault(field.index, []).append(field.error(by_channel(outputs[field.index])))
        for i in self._integers:
            errors[i] = [_mismatch(self._outputs[i], outputs[i])]
        total = sum(self._shares[i] for i in errors)
        return float(sum(self._shares[i] * np.mean(found) for i, found in errors.items()) / total) if total else 0.0


def has_classes(spec: OutputSpec) -> bool:
    """Whether an output counts by the divergence of its classes, as one for each sample or each step.

    The classes of a map count by squared errors: as good there, and much quicker.
    """
    return spec.metric == TOP1 and spec.kind != CLASS_MAP


def _mismatch(reference: Array, output: Array) -> float:
    """Share of integers that differ; all of them if their number has changed."""
    return float((reference != output).mean()) if reference.shape == output.shape else 1.0


@dataclass(frozen=True, eq=False)
class _Classes:
    """The original's class scores in the form that a divergence needs; the classes are on the last axis.

    Attributes:
        axis: of the classes in the output.
        p: probabilities, none of them 0 if the output gives them.
        log_p: their logarithms; None if the output gives the probabilities.
    """

    axis: int
    p: Array
    log_p: Array | None

    @classmethod
    def of(cls, output: Array, axis: int) -> _Classes:
        x = np.moveaxis(output, axis, -1)
        if sum_to_one(x, -1):
            return cls(axis, _positive(x), None)
        log_p = _log_softmax(x)
        return cls(axis, np.exp(log_p), log_p)

    def divergence(self, output: Array) -> float:
        """Mean KL divergence, nats."""
        x = np.moveaxis(output, self.axis, -1)
        gives_probabilities = sum_to_one(x, -1)
        if self.log_p is None and gives_probabilities:
            ratio = np.log(self.p / _positive(x))
        else:
            log_q = np.log(_positive(x)) if gives_probabilities else _log_softmax(x)
            ratio = (np.log(self.p) if self.log_p is None else self.log_p) - log_q
        return float((self.p * ratio).sum(axis=-1, dtype=np.float64).mean())


def _positive(probabilities: Array) -> Array:
    return np.asarray(np.maximum(probabilities.astype(np.promote_types(probabilities.dtype, np.float32)), _LEAST))


def _log_softmax(scores: Array) -> NDArray[np.float64]:
    x = scores.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return np.asarray(x - np.log(np.exp(x).sum(axis=-1, keepdims=True)))
