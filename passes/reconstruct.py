"""Reconstruction: weights, biases and norm parameters learned against the dense network, without labels.

Where compensation solves each layer once and alone, this pass moves all of them together: gradients of the distance to
the dense network, at its outputs and behind every linear layer, flow back through the compressed network as it stands,
so that a layer makes up for what others lost (blockwise reconstruction as in BRECQ, Li et al. 2021, with the whole
network as the last block; the outputs' part is the distillation loss of Hinton et al. 2015). onnxruntime computes the
gradients (``edgeprune.gradients``); Adam with steps relative to each tensor's size moves them (Kingma & Ba 2015; You et
al. 2020, "LAMB").

Requires that the compressed model keeps the dense one's value names. Ensures that only values of float initializers
change, and that the result's outputs are closer to the dense network's on samples that were not learned from:
otherwise the compressed model comes back as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.adam import Adam
from edgeprune.calibrate import Calibration
from edgeprune.learning import Lesson, find_lesson, trainable
from edgeprune.outputerror import Probe
from edgeprune.progress import Progress, Step
from edgeprune.spool import Spool
from edgeprune.student import Student
from edgeprune.taps import Taps

Arrays = dict[str, NDArray[Any]]
Kept = Mapping[tuple[str, int], NDArray[np.int64]]


@dataclass(frozen=True)
class Settings:
    """How long and how fast is learned.

    Attributes:
        learning_rate: largest step of a weight, as a fraction of the root mean square of its tensor.
        work_macs: multiply-accumulates spent, forward and backward; the same on every machine.
        most_epochs: passes over the samples at the most.
        batch: samples between two steps.
        inner_share: weight of all inner layers together, beside the outputs' 1.
        holdout_fraction: share of the samples that decides.
        statistics_samples: variances are taken from so many samples.
        judged_samples: held-out samples that are looked at.
        seed: of the order of samples.
        threads: of onnxruntime.
    """

    learning_rate: float = 2e-3
    work_macs: float = 3e11
    most_epochs: int = 16
    batch: int = 8
    inner_share: float = 1.0
    holdout_fraction: float = 0.125
    statistics_samples: int = 64
    judged_samples: int = 256
    seed: int = 0
    threads: int = 1


def reconstruct(
    dense: ir.Model,
    compressed: ir.Model,
    calibration: Calibration,
    *,
    kept: Kept | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ir.Model:
    """Return a copy of the compressed model with learned weights, or one of it as it is where learning does not help.

    Args:
        dense: the canonical dense model, float32.
        compressed: the same with channels cut and weights changed; its batch may be open.
        calibration: at least two samples; memory does not grow with their number.
        kept: (value name, axis) -> positions that stay, of the axes that lost any, as the analysis gives them.
        settings: how long and how fast.
        progress: told how far this is.

    Raises:
        CalibrationError: fewer than two samples, data that can't be read, or a full disk.
    """
    settings = settings or Settings()
    model = graph.clone(compressed)
    fit, held_out = calibration.split(settings.holdout_fraction, settings.seed)
    size = settings.batch if fit.batchable and fit.items >= settings.batch else 1
    shapes = {name: array.shape for name, array in next(iter(fit.batches(size))).items()}
    fixed = graph.infer_shapes(graph.clone(compressed), shapes)
    names = trainable(fixed)
    lesson = find_lesson(dense, fixed, kept or {}, fit.subset(settings.statistics_samples), settings.inner_share)
    if not lesson.taps or not names:
        return model
    student = Student(fixed, names, lesson.taps, settings.threads)
    if not student.trained:
        return model
    epochs = _epochs(fixed, fit.items, size, settings)
    judge = Probe(dense, held_out, settings.judged_samples, settings.threads)
    with (progress or Progress()).step("reconstructing") as step, Spool() as spool:
        inputs = _Inputs(spool, fit, shapes)
        weights = _learn(student, lesson, dense, _weights(model, student.trained), inputs, epochs, size, settings, step)
    for name, array in weights.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return model if judge.error(model) < judge.error(compressed) else graph.clone(compressed)


class _Inputs:
    """Calibration samples on disk, to be read in any order; those of another shape than the first are left out."""

    def __init__(self, spool: Spool, data: Calibration, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._spool = spool
        self._names = tuple(shapes)
        self.count = 0
        for feeds in data.batches(1):
            if all(feeds[name].shape[1:] == shape[1:] for name, shape in shapes.items()):
                for name in self._names:
                    spool.append(name, feeds[name])
                self.count += 1

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        """All samples once, in random order; a last batch that is too small is left out."""
        order = rng.permutation(self.count)
        for start in range(0, self.count - size + 1, size):
            chosen = order[start : start + size]
            yield {n: np.concatenate([self._spool.read(n, int(i)) for i in chosen]) for n in self._names}


def _learn(
    student: Student,
    lesson: Lesson,
    dense: ir.Model,
    weights: Arrays,
    inputs: _Inputs,
    epochs: int,
    size: int,
    settings: Settings,
    step: Step,
) -> Arrays:
    """The weights after so many epochs."""
    teacher = Taps(dense, lesson.names, settings.threads)
    together = max(1, settings.batch // size)
    steps = max(1, epochs * (inputs.count // size) // together)
    optimizer = Adam(weights, settings.learning_rate, steps)
    rng = np.random.default_rng(settings.seed)
    total: Arrays = {}
    seen = 0
    for _ in range(epochs):
        for feeds in inputs.batches(rng, size):
            gradients = student.gradients(feeds, optimizer.weights, lesson.targets(teacher.run(feeds)))
            for name, gradient in gradients.items():
                total[name] = total[name] + gradient if name in total else gradient
            seen += 1
            if seen % together == 0:
                optimizer.step(total)
                total = {}
                step.fraction(min(1.0, seen / (steps * together)))
    return optimizer.weights


def _epochs(model: ir.Model, items: int, size: int, settings: Settings) -> int:
    """Passes over the samples that the work allows: backward costs about twice as much as forward, the teacher once."""
    macs = sum(graph.count_macs(model).values()) / size
    return int(np.clip(settings.work_macs / max(1.0, 4 * macs * items), 1, settings.most_epochs))


def _weights(model: ir.Model, names: Sequence[str]) -> Arrays:
    found = {}
    for name in names:
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None, name
        found[name] = np.array(tensor.numpy(), np.float32)
    return found
