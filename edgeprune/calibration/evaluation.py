"""Scores of models: a user's metric, or top-1 accuracy on labelled data.

A model is given as a *run*: a callable that takes feeds (a dict by input name)
and returns the list of outputs. So models on any backend can be scored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration.calibration import Calibration, all_samples, input_specs
from edgeprune.calibration.run import Run
from edgeprune.calibration.sample_scores import HitScore, Score, score_of
from edgeprune.calibration.source_arrays import Member, open_arrays, read_members
from edgeprune.calibration.sources import Array, shape_text
from edgeprune.errors import CalibrationError, EvaluationError
from edgeprune.outputs import nan_last
from edgeprune.support import describe_failure, is_function_spec, load_function

EVALUATION_BATCH = 64


class Evaluation(Protocol):
    """A metric with its data."""

    @property
    def metric(self) -> str:
        """The metric's name, with its unit."""

    def score(self, run: Run) -> Score:
        """The model's score, higher is better."""


@dataclass(frozen=True)
class Top1:
    """Top-1 accuracy in percent, of the first output with a class axis for the labels."""

    data: Calibration
    labels: Member
    metric: str = "top-1 accuracy (%)"

    def score(self, run: Run) -> Score:
        """Percent of labels (samples, ...) that equal the argmax over axis 1 of an output (samples, classes, ...).

        Raises:
            EvaluationError: the labels fit no output.
        """
        labels = _read_labels(self.labels)
        start, hits = 0, list[NDArray[np.float64]]()
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
            right = nan_last(scores).argmax(axis=1) == truth
            hits.append(100.0 * right.reshape(len(truth), -1).mean(axis=1))
        each = np.concatenate(hits)
        return HitScore(float(each.mean()), tuple(each.tolist()))


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

    def score(self, run: Run) -> Score:
        """The function's result for ``model(feeds) -> list of outputs``; also ``model(array)`` if there is one input.

        Raises:
            EvaluationError: the function fails, or does not return what `score_of` takes.
        """

        def model(feeds: Any) -> list[Array]:
            if not isinstance(feeds, dict) and len(self.inputs) == 1:
                feeds = {self.inputs[0]: np.asarray(feeds)}
            return list(run(feeds))

        try:
            value = self.function(model)
            if isinstance(value, Iterator):  # a function that yields the number of each sample
                value = list(value)
        except Exception as error:
            raise EvaluationError(f"{self.spec} fails: {describe_failure(error)}") from error
        return score_of(value, self.spec)


def check_evaluation_is_there(spec: str | None) -> None:
    """Refuse an evaluation whose file does not exist, before the model is read.

    Raises:
        EvaluationError: naming the file.
    """
    file = "" if spec is None else spec.rpartition(":")[0] if is_function_spec(spec) else spec
    if file and not Path(file).exists():
        raise EvaluationError(f"--eval: {file} does not exist")


def open_evaluation(spec: str, model: ir.Model) -> Evaluation:
    """The evaluation that ``--eval`` names.

    Args:
        spec: an .npz with the model's inputs and ``labels``, or ``file.py:function`` that takes a callable model and
            returns what `score_of` takes: a number, or one number for each sample.
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
