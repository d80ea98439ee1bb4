"""Reconstruction: weights, biases and norm parameters learned against the dense network, without labels.

Where compensation solves each layer once and alone, this pass moves all of them together: gradients of the distance to
the dense network, at its outputs and behind every linear layer, flow back through the compressed network as it stands,
so that a layer makes up for what others lost (blockwise reconstruction as in BRECQ, Li et al. 2021, with the whole
network as the last block; the outputs' part is the distillation loss of Hinton et al. 2015). onnxruntime computes the
gradients (``edgeprune.gradients``); Adam with steps relative to each tensor's size moves them (Kingma & Ba 2015; You et
al. 2020, "LAMB").

Requires that the compressed model keeps the dense one's value names. Ensures that only values of float initializers
change, and that samples that were not learned from do not show the result's outputs to be farther from the dense
network's, beyond the standard error that so few samples leave: otherwise nothing comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune import graph
from edgeprune.calibration import Calibration, IntermediateOutputs, Spool
from edgeprune.errors import BackendError, ModelError
from edgeprune.graph import static_shape
from edgeprune.recovery import Adam, Probe, Student, StudentBatches, find_distillation_spec, trainable
from edgeprune.support import Progress, Step

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
        learning_rate: largest step of a weight, as a fraction of the root mean square of its tensor, for an output
            error of 1. An error goes with the square of what weights are off by, so steps go with its root: larger ones
            stir up more than there is to learn.
        most_learning_rate: however large the error is.
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
        threads: how many run at a time.
    """

    learning_rate: float = 0.015
    most_learning_rate: float = 5e-3
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


def split_for_learning(
    dense: ir.Model, calibration: Calibration, settings: Settings | None = None
) -> tuple[Calibration, Probe]:
    """Samples to learn from, and what judges by the others: as many as settings say, fewer where outputs are large.

    Raises:
        CalibrationError: fewer than two samples, or data that can't be read.
    """
    settings = settings or Settings()
    fit, held_out = calibration.split(settings.holdout_fraction, settings.seed)
    shapes = {name: array.shape for name, array in next(iter(held_out.batches(1))).items()}
    fixed = graph.infer_shapes(graph.clone(dense), shapes)
    output_bytes = 4 * sum(int(np.prod(static_shape(o) or (1,))) for o in fixed.graph.outputs)
    items = int(np.clip(JUDGED_BYTES // max(1, output_bytes), 1, settings.judged_samples))
    return fit, Probe(dense, held_out, items, settings.threads)


def reconstruct(
    dense: ir.Model,
    compressed: ir.Model,
    fit: Calibration,
    held_out: Probe,
    *,
    kept: Kept | None = None,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ir.Model | None:
    """Return a copy of the compressed model with learned weights; None where none are, or they are shown to be worse.

    Args:
        dense: the canonical dense model, float32.
        compressed: the same with channels cut and weights changed; its batch may be open.
        fit: samples to learn from; memory does not grow with their number.
        held_out: the dense network's outputs on other samples, see `split_for_learning`.
        kept: (value name, axis) -> positions that stay, of the axes that lost any, as the analysis gives them.
        settings: how long and how fast.
        progress: told how far this is.

    Raises:
        CalibrationError: data that can't be read, or a full disk.
    """
    settings, progress = settings or Settings(), progress or Progress()
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
    spec = find_distillation_spec(
        dense, fixed, kept or {}, fit.subset(settings.statistics_samples), settings.inner_share
    )
    if not spec.compared or not names:
        return None
    model = graph.clone(compressed)
    rate = min(settings.most_learning_rate, settings.learning_rate * math.sqrt(held_out.error(compressed)))
    together = max(1, batch // size)
    lanes = min(settings.threads, together)
    try:
        student = Student(fixed, names, spec.compared, settings.threads // lanes)
        if not student.trained:
            return None
        with progress.step("learning from the original") as step, Spool() as spool, ThreadPoolExecutor(lanes) as pool:
            teacher = IntermediateOutputs(dense, spec.names, settings.threads)
            samples = {name: shape[1:] for name, shape in shapes.items()}
            batches = StudentBatches(
                spool, fit, samples, size, together, lambda feeds: spec.targets(teacher.run(feeds)), seen > fit.items
            )
            optimizer = Adam(_weights(model, student.trained), rate, seen // batch)
            _learn(student, optimizer, batches.endless(np.random.default_rng(settings.seed)), pool, step)
    except (BackendError, ModelError) as error:
        # Learning is an extra: gradients that onnxruntime does not take or can't compute are no reason to fail.
        progress.note(f"weights are not learned: {error}")
        return None
    for name, array in optimizer.weights.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    return None if held_out.is_worse(model, compressed) else model


def _learn(
    student: Student,
    optimizer: Adam,
    steps: Iterator[list[Arrays]],
    pool: ThreadPoolExecutor,
    step: Step,
) -> None:
    """Move the optimizer's weights until its steps are done; the gradients of a few batches count together."""
    for done in range(optimizer.steps):
        total: Arrays = {}
        for gradients in pool.map(lambda feeds: student.gradients(feeds, optimizer.weights), next(steps)):
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
    """Samples that go through the network at once; those of one step are shared among the threads."""
    if not fit.batchable:
        return 1
    values = [o for node in single.graph for o in node.outputs]
    each = 4 * sum(int(np.prod(static_shape(value) or (1,))) for value in values)
    # A value and its gradient, both kept until they have been used.
    most = min(max(1, batch // settings.threads), fit.items, settings.activation_bytes // max(1, 2 * each))
    return int(2 ** np.floor(np.log2(max(1, most))))


def _weights(model: ir.Model, names: Sequence[str]) -> Arrays:
    found = {}
    for name in names:
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None, name
        found[name] = np.array(tensor.numpy(), np.float32)
    return found
