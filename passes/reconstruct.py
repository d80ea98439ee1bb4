"""Reconstruction: weights, biases and norm parameters learned against the dense network, without labels.

Where compensation solves each layer once and alone, this pass moves all of them together: gradients of the distance to
the dense network, at its outputs and behind every linear layer, flow back through the compressed network as it stands,
so that a layer makes up for what others lost (blockwise reconstruction as in BRECQ, Li et al. 2021, with the whole
network as the last block; the outputs' part is the distillation loss of Hinton et al. 2015). onnxruntime computes the
gradients (``edgeprune.gradients``); Adam with steps relative to each tensor's size moves them (Kingma & Ba 2015; You et
al. 2020, "LAMB").

Requires that the compressed model keeps the dense one's value names. Ensures that only values of float initializers
change, and that samples that were not learned from do not show the result's outputs to be farther from the dense
network's, beyond the standard error that so few samples leave: otherwise the compressed model comes back as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.adam import Adam
from edgeprune.calibrate import Calibration
from edgeprune.errors import BackendError, ModelError
from edgeprune.learning import Lesson, find_lesson, trainable
from edgeprune.outputerror import Probe
from edgeprune.passes.edit import static_shape
from edgeprune.progress import Progress, Step
from edgeprune.spool import Spool
from edgeprune.student import Student
from edgeprune.taps import Taps

Arrays = dict[str, NDArray[Any]]
Kept = Mapping[tuple[str, int], NDArray[np.int64]]


MACS_PER_MOVE = 350
"""What moving one weight costs."""

JUDGED_BYTES = 256 << 20
"""Outputs held to judge by."""


@dataclass(frozen=True)
class Settings:
    """How long and how fast is learned.

    Attributes:
        learning_rate: largest step of a weight, as a fraction of the root mean square of its tensor.
        work_macs: multiply-accumulates spent, forward and backward; the same on every machine. A network that could see
            fewer than ``least_samples`` in it is left as it is.
        most_epochs: passes over the samples at the most.
        least_samples: see above.
        least_batch, most_batch: samples between two steps; the more, the more weights there are beside the work.
        activation_bytes: activations held at a time; it bounds the samples that go through the network at once.
        inner_share: weight of all inner layers together, beside the outputs' 1.
        holdout_fraction: share of the samples that decides.
        statistics_samples: variances are taken from so many samples.
        judged_samples: held-out samples that are looked at, fewer where outputs are large.
        seed: of the order of samples.
        threads: of onnxruntime.
    """

    learning_rate: float = 2e-3
    work_macs: float = 2e11
    most_epochs: int = 16
    least_samples: int = 64
    least_batch: int = 2
    most_batch: int = 8
    activation_bytes: int = 256 << 20
    inner_share: float = 1.0
    holdout_fraction: float = 0.125
    statistics_samples: int = 64
    judged_samples: int = 256
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, eq=False)
class Learned:
    """A model with learned weights, and the dense network's outputs on held-out samples, which have judged it."""

    model: ir.Model
    judge: Probe


def reconstruct(
    dense: ir.Model,
    compressed: ir.Model,
    calibration: Calibration,
    *,
    kept: Kept | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ir.Model:
    """Return a copy of the compressed model with learned weights, or as it is where they are shown to be worse.

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
    learned = learn(dense, compressed, calibration, kept=kept, settings=settings, progress=progress)
    return graph.clone(compressed) if learned is None else learned.model


def learn(
    dense: ir.Model,
    compressed: ir.Model,
    calibration: Calibration,
    *,
    kept: Kept | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> Learned | None:
    """The same as `reconstruct`, with what has judged it; None where nothing is learned or the result is worse."""
    settings, progress = settings or Settings(), progress or Progress()
    fit, held_out = calibration.split(settings.holdout_fraction, settings.seed)
    shapes = {name: array.shape for name, array in next(iter(fit.batches(1))).items()}
    single = graph.infer_shapes(graph.clone(compressed), shapes)
    macs = sum(graph.count_macs(single).values())
    batch = _samples_per_step(macs, graph.count_parameters(single), settings)
    size = _batch_size(single, fit, batch, settings)
    # Forward and twice that for the gradients, and the teacher.
    seen = int(min(settings.work_macs / max(1, 4 * macs), settings.most_epochs * fit.items))
    if seen < min(settings.least_samples, settings.most_epochs * fit.items):
        return None
    shapes = {name: (size, *shape[1:]) if fit.batchable else shape for name, shape in shapes.items()}
    fixed = graph.infer_shapes(graph.clone(compressed), shapes)
    names = trainable(fixed)
    lesson = find_lesson(dense, fixed, kept or {}, fit.subset(settings.statistics_samples), settings.inner_share)
    if not lesson.taps or not names:
        return None
    model = graph.clone(compressed)
    try:
        student = Student(fixed, names, lesson.taps, settings.threads)
        if not student.trained:
            return None
        with progress.step("learning from the original") as step, Spool() as spool:
            inputs = _Inputs(spool, fit, {name: shape[1:] for name, shape in shapes.items()})
            teacher = Taps(dense, lesson.names, settings.threads)
            optimizer = Adam(_weights(model, student.trained), settings.learning_rate, seen // batch)
            batches = inputs.batches(np.random.default_rng(settings.seed), size)
            _learn(student, lesson, teacher, optimizer, batches, max(1, batch // size), step)
    except (BackendError, ModelError) as error:
        # Learning is an extra: gradients that onnxruntime does not take or can't compute are no reason to fail.
        progress.note(f"weights are not learned: {error}")
        return None
    for name, array in optimizer.weights.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    judge = _held_out_probe(dense, held_out, settings)
    return None if judge.is_worse(model, compressed) else Learned(model, judge)


def _held_out_probe(dense: ir.Model, held_out: Calibration, settings: Settings) -> Probe:
    """What judges a step: as many held-out samples as the settings say, fewer where their outputs are large."""
    shapes = {name: array.shape for name, array in next(iter(held_out.batches(1))).items()}
    fixed = graph.infer_shapes(graph.clone(dense), shapes)
    output_bytes = 4 * sum(int(np.prod(static_shape(o) or (1,))) for o in fixed.graph.outputs)
    items = int(np.clip(JUDGED_BYTES // max(1, output_bytes), 1, settings.judged_samples))
    return Probe(dense, held_out, items, settings.threads)


class _Inputs:
    """Calibration samples on disk, to be read in any order; those of another shape than the first are left out."""

    def __init__(self, spool: Spool, data: Calibration, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._spool = spool
        self._names = tuple(shapes)
        self.count = 0
        for feeds in data.batches(1):
            if all(feeds[name].shape[1:] == shape for name, shape in shapes.items()):
                for name in self._names:
                    spool.append(name, feeds[name])
                self.count += 1

    def batches(self, rng: np.random.Generator, size: int) -> Iterator[Arrays]:
        """Batches without end: all samples in random order, again and again; what does not fill a batch is left out."""
        while True:
            order = rng.permutation(self.count)
            for start in range(0, self.count - size + 1, size):
                chosen = order[start : start + size]
                yield {n: np.concatenate([self._spool.read(n, int(i)) for i in chosen]) for n in self._names}


def _learn(
    student: Student,
    lesson: Lesson,
    teacher: Taps,
    optimizer: Adam,
    batches: Iterator[Arrays],
    together: int,
    step: Step,
) -> None:
    """Move the optimizer's weights until its steps are done; the gradients of a few batches count together."""
    for done in range(optimizer.steps):
        total: Arrays = {}
        for feeds in itertools.islice(batches, together):
            gradients = student.gradients(feeds, optimizer.weights, lesson.targets(teacher.run(feeds)))
            for name, gradient in gradients.items():
                total[name] = total[name] + gradient if name in total else gradient
        optimizer.step(total)
        step.fraction((done + 1) / optimizer.steps)


def _samples_per_step(macs: int, parameters: int, settings: Settings) -> int:
    """The fewest samples whose gradients are at least as much work as moving the weights.

    At equal work many small steps lead farther than few large ones.
    """
    batch = settings.least_batch
    while batch < settings.most_batch and 3 * batch * macs < MACS_PER_MOVE * parameters:
        batch *= 2
    return min(batch, settings.most_batch)


def _batch_size(single: ir.Model, fit: Calibration, batch: int, settings: Settings) -> int:
    """Samples that go through the network at once."""
    if not fit.batchable:
        return 1
    values = [o for node in single.graph for o in node.outputs]
    each = 4 * sum(int(np.prod(static_shape(value) or (1,))) for value in values)
    # A value and its gradient, both kept until they have been used.
    most = min(batch, fit.items, settings.activation_bytes // max(1, 2 * each))
    return int(2 ** np.floor(np.log2(max(1, most))))


def _weights(model: ir.Model, names: Sequence[str]) -> Arrays:
    found = {}
    for name in names:
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None, name
        found[name] = np.array(tensor.numpy(), np.float32)
    return found
