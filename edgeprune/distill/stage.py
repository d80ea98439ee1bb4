"""The training as a stage of a compile: a built network goes in, the same with other weights comes out."""

from __future__ import annotations

import onnx_ir as ir
import torch

from edgeprune.build import Kept, Trained
from edgeprune.calibration import Calibration
from edgeprune.distill.folder import Networks
from edgeprune.distill.learner import UserLoss
from edgeprune.distill.pairing import couple
from edgeprune.distill.samples import read_samples
from edgeprune.distill.settings import Settings
from edgeprune.distill.trainer import Trainer
from edgeprune.distill.workers import Workers
from edgeprune.support import Progress

STATISTICS_SAMPLES = 64
LEAST_SAMPLES = 4


def open_trainer(
    networks: Networks,
    data: Calibration,
    settings: Settings,
    progress: Progress,
    workers: Workers,
    user_loss: UserLoss | None = None,
    floats: ir.Model | None = None,
) -> Trainer:
    """A trainer that has scored the student as it is.

    ``floats`` is the student before it was quantized, if that is known.

    Raises:
        CalibrationError: the samples differ in shape.
        ModelError: an operator cannot be run in PyTorch, or there is nothing to train.
    """
    torch.manual_seed(settings.seed)
    fit, held_out = data.split(settings.held_out, settings.seed)
    with progress.step("reading the data"):
        learned, deciding = read_samples(fit), read_samples(held_out)
    with progress.step("preparing"):
        first = {name: array[:STATISTICS_SAMPLES] for name, array in learned.arrays.items()}
        both = couple(networks, data, first, settings, floats)
        trainer = Trainer(both, learned, deciding, settings, workers, user_loss)
        trainer.measure_start()
    return trainer


def train_built(
    dense: ir.Model,
    before: ir.Model,
    built: ir.Model,
    kept: Kept,
    data: Calibration,
    settings: Settings,
    progress: Progress,
) -> Trained | None:
    """Train a built network for the minutes of the settings.

    Args:
        dense: the dense network, its teacher.
        before: the cut network in float.
        built: the same, quantized and lowered; its nodes stay as they are.
        kept: (value of the dense network, axis) -> positions that the built one has.
        data: samples without labels.
        settings: how long and how.
        progress: shows the progress.

    Returns:
        The network, with a summary that does not know the score before; None where nothing is gained on held-out
        samples, or there are too few samples to tell.

    Raises:
        CalibrationError: the samples differ in shape.
        ModelError: an operator cannot be run in PyTorch, there is nothing to train, or the loss becomes no number.
    """
    if data.items < LEAST_SAMPLES:
        return None
    trainer = open_trainer(Networks(dense, built, kept), data, settings, progress, Workers(), floats=before)
    with progress.step("training") as step:
        trainer.run(lambda done, point: step.fraction(min(1.0, done)), lambda: None)
    if not trainer.gained:
        return None
    return Trained(trainer.couple.student.written(trainer.best), trainer.summary(before=0.0))
