"""Scores of models: a user's metric, top-1 accuracy on labelled data, or fidelity to the original.

A score is one number, higher is better. A model is given as a *run*: a callable that takes feeds (a dict by input name)
and returns the list of outputs. So models on any backend can be scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, all_samples, input_specs
from edgeprune.calibration.source_arrays import Member, open_arrays, read_members
from edgeprune.calibration.sources import Array, Feeds, shape_text
from edgeprune.errors import CalibrationError, EvaluationError
from edgeprune.support import describe_failure, is_function_spec, load_function

Run = Callable[[Feeds], Sequence[Array]]

EVALUATION_BATCH = 64
SQNR_CEILING_DB = 120.0
"""The score of identical outputs, whose SQNR is infinite; a little under the noise floor of FP32."""


class Evaluation(Protocol):
    """A metric with its data."""

    @property
    def metric(self) -> str:
        """The metric's name, with its unit."""

    def score(self, run: Run) -> float:
        """The model's score, higher is better."""


@dataclass(frozen=True)
class Top1:
    """Top-1 accuracy in percent, of the first output with a class axis for the labels."""

    data: Calibration
    labels: Member
    metric: str = "top-1 accuracy (%)"

    def score(self, run: Run) -> float:
        """Percent of labels (samples, ...) that equal the argmax over axis 1 of an output (samples, classes, ...).

        Raises:
            EvaluationError: the labels fit no output.
        """
        labels = _read_labels(self.labels)
        hits = total = start = 0
        for feeds in self.data.batches(EVALUATION_BATCH):
            outputs = run(feeds)
            rows = self.data.rows(feeds)
            truth = labels[start : start + rows]
            start += rows
            scores = next((o for o in outputs if o.ndim >= 2 and (o.shape[0], *o.shape[2:]) == truth.shape), None)
            if scores is None:
                shapes = ", ".join(shape_text(o.shape) for o in outputs)
                raise EvaluationError(
                    f"labels of shape {shape_text(truth.shape)} fit none of the model's outputs ({shapes})"
                )
            if truth.size and not 0 <= int(truth.min()) <= int(truth.max()) < scores.shape[1]:
                raise EvaluationError(
                    f"labels run from {truth.min()} to {truth.max()}, the model has {scores.shape[1]} classes"
                )
            hits += int((_nan_last(scores).argmax(axis=1) == truth).sum())
            total += truth.size
        return 100.0 * hits / total


@dataclass(frozen=True)
class UserMetric:
    """A metric that a user's function computes from a callable model."""

    spec: str
    function: Callable[[Any], Any]
    inputs: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The function's name."""
        return self.spec.rpartition(":")[2]

    def score(self, run: Run) -> float:
        """The function's result for ``model(feeds) -> list of outputs``; also ``model(array)`` if there is one input.

        Raises:
            EvaluationError: the function fails, or does not return a finite number.
        """

        def model(feeds: Any) -> list[Array]:
            if not isinstance(feeds, dict) and len(self.inputs) == 1:
                feeds = {self.inputs[0]: np.asarray(feeds)}
            return list(run(feeds))

        try:
            value = self.function(model)
        except Exception as error:
            raise EvaluationError(f"{self.spec} fails: {describe_failure(error)}") from error
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise EvaluationError(f"{self.spec} returns a {type(value).__name__}, not a number") from None
        if not math.isfinite(number):
            raise EvaluationError(f"{self.spec} returns {number}, not a finite number")
        return number


@dataclass(frozen=True)
class Fidelity:
    """Agreement with a reference model on held-out data; it needs no labels.

    If the model classifies (an output of shape (samples, classes), or one with probabilities on its last axis), the
    score is the percentage of positions where both predict the same class, over all such outputs. Otherwise it is the
    signal-to-quantization-noise ratio in dB of the worst output. Each channel of an output is normalized by itself, so
    that boxes in pixels do not outweigh class scores.
    """

    reference: Run
    held_out: Calibration
    classifies: bool

    @property
    def metric(self) -> str:
        """Top-1 agreement or SQNR, with the unit."""
        return "top-1 agreement with the original (%)" if self.classifies else "SQNR against the original (dB)"

    def score(self, run: Run) -> float:
        """Agreement in percent, or SQNR in dB, capped at SQNR_CEILING_DB.

        Raises:
            EvaluationError: the two models' outputs differ in number or shape.
        """
        hits = total = 0
        energies: list[NDArray[np.float64]] = []
        for feeds in self.held_out.batches():
            pairs = _paired_outputs(self.reference(feeds), run(feeds))
            if self.classifies:
                for wanted, got in pairs:
                    if is_classifier(wanted):
                        same = wanted.argmax(axis=-1) == _nan_last(got).argmax(axis=-1)
                        hits, total = hits + int(same.sum()), total + same.size
                continue
            more = [_channel_energies(wanted, got) for wanted, got in pairs]
            energies = [a + b for a, b in zip(more, energies, strict=True)] if energies else more
        if self.classifies:
            return 100.0 * hits / max(1, total)
        return min((_sqnr_db(signal, noise) for signal, noise in energies), default=SQNR_CEILING_DB)


def fidelity(reference: Run, held_out: Calibration) -> Fidelity:
    """Fidelity to a reference model; its outputs on the first batch show whether it classifies."""
    for feeds in held_out.batches():
        return Fidelity(reference, held_out, any(is_classifier(output) for output in reference(feeds)))
    raise CalibrationError(f"{held_out.describe()}: there is no sample to compare models on")


def open_evaluation(spec: str, model: ir.Model) -> Evaluation:
    """The evaluation that ``--eval`` names.

    Args:
        spec: an .npz with the model's inputs and ``labels``, or ``file.py:function`` that takes a callable model and
            returns a number.
        model: the model that will be evaluated.

    Raises:
        EvaluationError: the data or function is missing or does not fit the model.
    """
    if is_function_spec(spec):
        names = tuple(s.name for s in input_specs(model))
        return UserMetric(spec, load_function(spec, EvaluationError), names)
    path = Path(spec)
    if path.suffix.lower() != ".npz":
        raise EvaluationError(f"{spec} is neither an .npz file with `labels` nor file.py:function")
    try:
        labels = read_members(path).get("labels")
        if labels is None:
            raise EvaluationError(f"{path} has no array named 'labels'")
        specs = input_specs(model)
        data = all_samples(open_arrays(path, specs), EVALUATION_BATCH, model)
    except CalibrationError as error:
        raise EvaluationError(str(error)) from error
    if labels.dtype.kind not in "iu" or not labels.shape or labels.shape[0] < data.samples:
        given = f"{labels.dtype} {shape_text(labels.shape)}"
        raise EvaluationError(f"{path}: labels must be one integer for each of {data.samples} samples, not {given}")
    return Top1(data, labels)


def _read_labels(member: Member) -> NDArray[np.int64]:
    with ExitStack() as stack:
        data = member.open(stack).read()
    return np.frombuffer(data, member.dtype).reshape(member.shape).astype(np.int64)


def _nan_last(scores: Array) -> Array:
    """Scores with NaN as the lowest value: argmax would return its index."""
    return np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if scores.dtype.kind == "f" else scores


def is_classifier(output: Array) -> bool:
    """Whether an output has logits (samples, classes) or probabilities over its last axis."""
    if output.dtype.kind != "f" or output.ndim < 2 or output.shape[-1] < 2:
        return False
    if output.ndim == 2:
        return True
    return bool(output.min(initial=0) >= 0 and np.abs(output.sum(axis=-1, dtype=np.float64) - 1).max(initial=0) < 1e-2)


def _paired_outputs(wanted: Sequence[Array], got: Sequence[Array]) -> list[tuple[Array, Array]]:
    shapes = [[output.shape for output in outputs] for outputs in (wanted, got)]
    if shapes[0] != shapes[1]:
        raise EvaluationError(f"the model's outputs have shapes {shapes[1]}, the original's {shapes[0]}")
    return list(zip(wanted, got, strict=True))


def _channel_energies(wanted: Array, got: Array) -> NDArray[np.float64]:
    """Sums of squares of signal and of error, shape (2, channels); channels are the shortest axis after the batch."""
    reference, other = np.atleast_1d(wanted.astype(np.float64)), np.atleast_1d(got.astype(np.float64))
    error = np.where(np.isfinite(reference), reference - other, 0.0)
    reference = np.where(np.isfinite(reference), reference, 0.0)
    channel = 1 + int(np.argmin(reference.shape[1:])) if reference.ndim > 2 else 0
    rest = tuple(axis for axis in range(reference.ndim) if axis != channel) if reference.ndim > 2 else None
    return np.stack([np.atleast_1d((values**2).sum(axis=rest)) for values in (reference, error)])


def _sqnr_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """SQNR in dB with equal weight for every channel; channels without a signal do not count."""
    active = signal > 0
    if not np.isfinite(noise).all():
        return -SQNR_CEILING_DB
    if not active.any():
        return SQNR_CEILING_DB if not noise.any() else -SQNR_CEILING_DB
    ratio = float((noise[active] / signal[active]).mean())
    return SQNR_CEILING_DB if ratio <= 0 else float(np.clip(-10 * math.log10(ratio), -SQNR_CEILING_DB, SQNR_CEILING_DB))
