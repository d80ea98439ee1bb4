"""Reconstruction: learn weights, biases and normalization parameters from the dense network, without labels.

Compensation solves each layer once and alone. This pass changes all layers together. It follows the gradient of the
distance to the dense network, at the outputs and behind linear layers, through the compressed network. So a layer can
correct what other layers lost (blockwise reconstruction as in BRECQ, Li et al. 2021, with the whole network as the last
block; at the outputs it is the distillation loss of Hinton et al. 2015). onnxruntime computes the gradients
(``edgeprune.gradients``); Adam with steps relative to each tensor's size updates the weights (Kingma & Ba 2015; You et
al. 2020, "LAMB").

Requires that the compressed model keeps the dense model's value names. Ensures that only values of float initializers
change. Ensures that on held-out samples the outputs are not farther from the dense network's than before, beyond the
standard error of so few samples; otherwise no model is returned.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from edgeprune import graph
from edgeprune.calibration import Calibration, IntermediateOutputs, Spool, open_comparable
from edgeprune.errors import BackendError, ModelError
from edgeprune.graph import constant, static_shape
from edgeprune.recovery import Adam, Arrays, Kept, Probe, Student, StudentBatches, find_distillation_spec, trainable
from edgeprune.support import Progress, Step, plural

MACS_PER_UPDATE = 350
"""Cost of updating one weight, in multiply-accumulates."""

_LEFT_OUT = "were left out: on held-out samples the outputs were farther from the original's with them"

SCORED_BYTES = 256 << 20
"""Most bytes of held-out outputs that are kept for scoring."""


@dataclass(frozen=True)
class ReconstructSettings:
    """How long and how fast to learn.

    Attributes:
        learning_rate: largest step of a weight, as a fraction of the root mean square of its tensor, for an output
            error of 1. The error grows with the square of the weights' deviation, so the step grows with the root of
            the error.
        most_learning_rate: largest step for any error.
        work_macs: multiply-accumulates spent, forward and backward; the same on every machine. A network that would see
            fewer than ``least_samples`` samples within it is not trained.
        most_epochs: most passes over the samples.
        least_samples: see ``work_macs``.
        least_batch, most_batch: samples between two steps; more if updating the weights is much of the work.
        activation_bytes: activations held at a time; this bounds the samples that go through the network at once.
        inner_share: total weight of the inner layers; the outputs have a total weight of 1.
        holdout_fraction: share of the samples on which the result is scored.
        statistics_samples: samples from which variances are computed.
        scored_samples: most held-out samples on which the result is scored; fewer if outputs are large.
        seed: seed of the order of samples.
        threads: threads in total.
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
    scored_samples: int = 256
    seed: int = 0
    threads: int = 1


def split_for_learning(
    dense: ir.Model, calibration: Calibration, settings: ReconstructSettings | None = None
) -> tuple[Calibration, Probe]:
    """Samples to learn from, and a probe with the other samples.

    Raises:
        CalibrationError: fewer than two samples, or data that cannot be read.
    """
    settings = settings or ReconstructSettings()
    fit, held_out = calibration.split(settings.holdout_fraction, settings.seed)
    shapes = {name: array.shape for name, array in next(iter(held_out.batches(1))).items()}
    fixed = graph.infer_shapes(graph.clone(dense), shapes)
    output_bytes = 4 * sum(int(np.prod(static_shape(o) or (1,))) for o in fixed.graph.outputs)
    items = int(np.clip(SCORED_BYTES // max(1, output_bytes), 1, settings.scored_samples))
    return fit, Probe(dense, held_out, items, settings.threads)


def reconstruct(
    dense: ir.Model,
    compressed: ir.Model,
    fit: Calibration,
    held_out: Probe,
    *,
    kept: Kept | None = None,
    settings: ReconstructSettings | None = None,
    progress: Progress | None = None,
) -> ir.Model | None:
    """Return a copy of the compressed model with learned weights; None if none are learned, or if they are worse.

    If they are worse, the compressed model has a warning that says so.

    Args:
        dense: the canonical dense model, float32.
        compressed: the same model with channels cut and weights changed; its batch may be open.
        fit: samples to learn from; memory does not grow with their number.
        held_out: the dense network's outputs on other samples, see `split_for_learning`.
        kept: positions of each cut axis that stay, from the analysis.
        settings: how long and how fast to learn.
        progress: shows how far the pass is.

    Raises:
        CalibrationError: data that cannot be read, or a full disk.
    """
    settings, progress = settings or ReconstructSettings(), progress or Progress()
    comparable = open_comparable(dense, fit)
    delivered, dense, compressed, fit = (
        compressed,
        comparable.of(dense),
        comparable.of(compressed),
        comparable.data(fit),
    )
    shapes = {name: array.shape for name, array in next(iter(fit.batches(1))).items()}
    single = graph.infer_shapes(graph.clone(compressed), shapes)
    macs = sum(graph.count_macs(single).values())
    batch = _samples_per_step(macs, graph.count_parameters(single), settings)
    size = _batch_size(single, fit, batch, settings)
    # One forward pass, twice its work for the gradients, and the teacher.
    seen = int(min(settings.work_macs / max(1, 4 * macs), settings.most_epochs * fit.items))
    if seen < min(settings.least_samples, settings.most_epochs * fit.items):
        return None
    joined = {name: (size, *shape[1:]) if fit.batchable else shape for name, shape in shapes.items()}
    fixed = graph.infer_shapes(graph.clone(compressed), joined)
    names = trainable(fixed)
    statistics = fit.subset(settings.statistics_samples)
    spec = find_distillation_spec(dense, fixed, kept or {}, statistics, settings.inner_share)
    if not spec.compared or not names:
        return None
    model = graph.clone(delivered)
    rate = min(settings.most_learning_rate, settings.learning_rate * math.sqrt(held_out.error(delivered)))
    together = max(1, batch // size)
    lanes = min(settings.threads, together)
    try:
        student = Student(fixed, names, spec.compared, settings.threads // lanes)
        if not student.trained:
            return None
        with progress.step("learning from the original") as step, Spool() as spool, ThreadPoolExecutor(lanes) as pool:
            teacher = IntermediateOutputs(dense, spec.names, settings.threads)
            batches = StudentBatches(
                spool, fit, shapes, size, together, lambda feeds: spec.targets(teacher.run(feeds)), seen > fit.items
            )
            weights = {n: np.array(constant(model.graph.initializers[n]), np.float32) for n in student.trained}
            optimizer = Adam(weights, rate, seen // batch)
            _learn(student, optimizer, batches.endless(np.random.default_rng(settings.seed)), pool, step)
    except (BackendError, ModelError) as error:
        # Learning is optional: gradients that onnxruntime cannot compute are no reason to fail.
        progress.note(f"weights are not learned: {error}")
        return None
    for name, array in optimizer.weights.items():
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)
    if not held_out.is_worse(model, delivered):
        return model
    graph.add_warning(delivered, f"learned weights of {plural(len(student.trained), 'tensor')} {_LEFT_OUT}")
    return None


def _learn(
    student: Student, optimizer: Adam, steps: Iterator[list[Arrays]], pool: ThreadPoolExecutor, step: Step
) -> None:
    """Update the optimizer's weights until its steps are done; each step adds the gradients of a few batches."""
    for done in range(optimizer.steps):
        total: Arrays = {}
        for gradients in pool.map(lambda feeds: student.gradients(feeds, optimizer.weights), next(steps)):
            for name, gradient in gradients.items():
                total[name] = total[name] + gradient if name in total else gradient
        optimizer.step(total)
        step.fraction((done + 1) / optimizer.steps)


def _samples_per_step(macs: int, parameters: int, settings: ReconstructSettings) -> int:
    """The fewest samples whose gradients are at least as much work as updating the weights.

    With the same work many small steps gain more than few large ones.
    """
    batch = settings.least_batch
    while batch < settings.most_batch and 3 * batch * macs < MACS_PER_UPDATE * parameters:
        batch *= 2
    return min(batch, settings.most_batch)


def _batch_size(single: ir.Model, fit: Calibration, batch: int, settings: ReconstructSettings) -> int:
    """Samples that go through the network at once; the threads share the samples of one step."""
    if not fit.batchable:
        return 1
    values = [o for node in single.graph for o in node.outputs]
    each = 4 * sum(int(np.prod(static_shape(value) or (1,))) for value in values)
    # A value and its gradient are both kept until they have been used.
    most = min(max(1, batch // settings.threads), fit.items, settings.activation_bytes // max(1, 2 * each))
    return int(2 ** np.floor(np.log2(max(1, most))))
