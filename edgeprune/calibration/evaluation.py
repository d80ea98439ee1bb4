"""What a model is worth: a user's score, top-1 on labelled data, or fidelity to the original.

A score is one number, higher is better. Models are judged through a *run*: a callable that takes feeds (a dict
keyed by input name) and returns the list of outputs, so that any backend can be scored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, input_specs
from edgeprune.calibration.source_arrays import Member, open_arrays, read_members
from edgeprune.calibration.sources import Array, Feeds
from edgeprune.errors import CalibrationError, EvaluationError
from edgeprune.support import describe_failure, is_function_spec, load_function

Run = Callable[[Feeds], Sequence[Array]]

EVALUATION_BATCH = 64
SQNR_CEILING_DB = 120.0
"""Identical outputs have infinite SQNR; this stands for it, a little under float32's own noise floor."""


class Evaluation(Protocol):
    """A metric bound to its data."""

    @property
    def metric(self) -> str:
        """What the number means, with its unit."""

    def score(self, run: Run) -> float:
        """The model's score, higher is better."""


@dataclass(frozen=True)
class Top1:
    """Top-1 accuracy in percent, of the first output that has a class axis for the labels."""

    data: Calibration
    labels: Member
    metric: str = "top-1 accuracy (%)"

    def score(self, run: Run) -> float:
        """Percent of labels (samples, ...) that equal the argmax over axis 1 of an output (samples, classes, ...).

        Raises:
            EvaluationError: no output fits the labels.
        """
        labels = _read_labels(self.labels)
        hits = total = start = 0
        for feeds in self.data.batches(EVALUATION_BATCH):
            outputs = run(feeds)
            rows = len(next(iter(feeds.values())))
            truth = labels[start : start + rows]
            start += rows
            scores = next((o for o in outputs if o.ndim >= 2 and (o.shape[0], *o.shape[2:]) == truth.shape), None)
            if scores is None:
                shapes = ", ".join("x".join(map(str, o.shape)) for o in outputs)
                raise EvaluationError(
                    f"labels of shape {'x'.join(map(str, truth.shape))} fit none of the model's outputs ({shapes})"
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
    """A number from a user's function, which is called with a callable model."""

    spec: str
    function: Callable[[Any], Any]
    inputs: tuple[str, ...]

    @property
    def metric(self) -> str:
        """The function's name."""
        return self.spec.rpartition(":")[2]

    def score(self, run: Run) -> float:
        """What the function returns for ``model(feeds) -> list of outputs``; ``model(array)`` if there is one input.

        Raises:
            EvaluationError: the function fails, or returns no finite number.
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
    """Agreement with a reference model on held-out data; no labels needed.

    If the model classifies (an output of shape (samples, classes), or one whose last axis are probabilities), the
    score is the percentage of positions where both name the same class, over all such outputs. Otherwise it is the
    signal-to-quantization-noise ratio in dB of the worst output, each output's channels normalised on their own so
    that boxes in pixels do not drown class scores.
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
        signal: list[NDArray[np.float64]] = []
        noise: list[NDArray[np.float64]] = []
        for feeds in self.held_out.batches():
            pairs = _paired_outputs(self.reference(feeds), run(feeds))
            if self.classifies:
                for wanted, got in pairs:
                    if is_classifier(wanted):
                        same = wanted.argmax(axis=-1) == _nan_last(got).argmax(axis=-1)
                        hits, total = hits + int(same.sum()), total + same.size
                continue
            sums = [_channel_energies(wanted, got) for wanted, got in pairs]
            signal = [new + old for (new, _), old in zip(sums, signal, strict=True)] if signal else [s for s, _ in sums]
            noise = [new + old for (_, new), old in zip(sums, noise, strict=True)] if noise else [n for _, n in sums]
        if self.classifies:
            return 100.0 * hits / max(1, total)
        return min((_sqnr_db(s, n) for s, n in zip(signal, noise, strict=True)), default=SQNR_CEILING_DB)


def fidelity(reference: Run, held_out: Calibration) -> Fidelity:
    """Fidelity to a reference model; whether it classifies is seen from its outputs on the first batch."""
    for feeds in held_out.batches():
        return Fidelity(reference, held_out, any(is_classifier(output) for output in reference(feeds)))
    raise CalibrationError(f"{held_out.describe()}: there is nothing to hold a model against")


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
        source = open_arrays(path, specs)
    except CalibrationError as error:
        raise EvaluationError(str(error)) from error
    if labels.dtype.kind not in "iu" or not labels.shape or labels.shape[0] < source.samples:
        shape = "x".join(map(str, labels.shape)) or "scalar"
        raise EvaluationError(
            f"{path}: labels must be one whole number for each of {source.samples} samples, not {labels.dtype} {shape}"
        )
    if not source.items:
        raise EvaluationError(f"{path} holds no samples")
    batchable = not source.stacked and all(s.shape and s.shape[0] is None for s in specs)
    return Top1(Calibration(source, np.ones(source.items, np.bool_), EVALUATION_BATCH, batchable), labels)


def _read_labels(member: Member) -> NDArray[np.int64]:
    from contextlib import ExitStack

    with ExitStack() as stack:
        data = member.open(stack).read()
    return np.frombuffer(data, member.dtype).reshape(member.shape).astype(np.int64)


def _nan_last(scores: Array) -> Array:
    """Scores with NaN as the lowest value: argmax would name it the winner."""
    return np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf) if scores.dtype.kind == "f" else scores


def is_classifier(output: Array) -> bool:
    """Whether an output holds logits (samples, classes) or probabilities over its last axis."""
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


def _channel_energies(wanted: Array, got: Array) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums of squares of signal and of error, per channel: the shortest axis after the batch; shape (channels,)."""
    reference, other = np.atleast_1d(wanted.astype(np.float64)), np.atleast_1d(got.astype(np.float64))
    error = np.where(np.isfinite(reference), reference - other, 0.0)
    reference = np.where(np.isfinite(reference), reference, 0.0)
    channel = 1 + int(np.argmin(reference.shape[1:])) if reference.ndim > 2 else 0
    rest = tuple(axis for axis in range(reference.ndim) if axis != channel) if reference.ndim > 2 else None
    return np.atleast_1d((reference**2).sum(axis=rest)), np.atleast_1d((error**2).sum(axis=rest))


def _sqnr_db(signal: NDArray[np.float64], noise: NDArray[np.float64]) -> float:
    """SQNR in dB with every channel weighted alike; silent channels do not count."""
    heard = signal > 0
    if not np.isfinite(noise).all():
        return -SQNR_CEILING_DB
    if not heard.any():
        return SQNR_CEILING_DB if not noise.any() else -SQNR_CEILING_DB
    ratio = float((noise[heard] / signal[heard]).mean())
    return SQNR_CEILING_DB if ratio <= 0 else float(np.clip(-10 * math.log10(ratio), -SQNR_CEILING_DB, SQNR_CEILING_DB))
