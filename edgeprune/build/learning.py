"""How the weights of a built network are learned from the dense one: quickly by onnxruntime, or trained by PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration
from edgeprune.errors import BackendError, CalibrationError, ModelError
from edgeprune.graph import add_warning
from edgeprune.passes.recover import ReconstructSettings, reconstruct, split_for_learning
from edgeprune.report import Training
from edgeprune.support import Progress, available_cores

LEARNABLE_SHARE = 0.1
"""If the cut causes less than this share of a built network's error, and INT8 the rest, learning gains too little."""

Kept = Mapping[tuple[str, int], NDArray[np.int64]]
"""(value of the dense network, axis) -> positions that the cut network has."""
Rebuild = Callable[[ir.Model], ir.Model]


@dataclass(frozen=True, eq=False)
class Trained:
    """A built network with trained weights, and how its training went."""

    model: ir.Model
    training: Training


Train = Callable[[ir.Model, ir.Model, ir.Model, Kept, Calibration, float], Trained | None]
"""Trains a built network for a share of its time; None if nothing was gained.

Takes the dense network, the cut one in float, the built one, what it keeps, samples, and the share.
"""


@dataclass(frozen=True)
class Learning:
    """What a builder does to recover the accuracy of a candidate.

    Attributes:
        fast: learn the weights of a cut network in seconds.
        train: then train the built network; None without.
    """

    fast: bool = True
    train: Train | None = None

    def trained(
        self, dense: ir.Model, before: ir.Model, built: ir.Model, kept: Kept, data: Calibration, share: float
    ) -> Trained | None:
        """A built network after `train`; None if that gains nothing, or fails: what was found before is worth more."""
        if self.train is None or data.is_random:
            return None
        try:
            return self.train(dense, before, built, kept, data, share)
        except (ModelError, CalibrationError, BackendError) as error:
            add_warning(before, f"the training failed, and the result is as it was before: {error}")
            return None


def learned_weights(
    dense: ir.Model,
    before: ir.Model,
    built: ir.Model,
    kept: Kept,
    data: Calibration,
    rebuilt: Rebuild,
    simulated: Rebuild,
    progress: Progress | None,
) -> tuple[ir.Model, ir.Model] | None:
    """The cut network with learned weights, in float and as built; None if that is worse on held-out samples.

    Args:
        dense: the dense network.
        before: the cut network in float.
        built: the same in its formats.
        kept: what of the dense network it has.
        data: samples.
        rebuilt: a float network -> the same in the formats.
        simulated: a built network -> what computes the same in onnxruntime.
        progress: shows the progress.
    """
    settings = ReconstructSettings(threads=available_cores())
    fit, held_out = split_for_learning(dense, data, settings)
    now = simulated(built)
    if held_out.error(before) < LEARNABLE_SHARE * held_out.error(now):
        return None
    learned = reconstruct(dense, before, fit, held_out, kept=kept, settings=settings, progress=progress)
    if learned is None:
        return None
    after = rebuilt(learned)
    if not held_out.is_worse(simulated(after), now):
        return learned, after
    add_warning(before, "learned weights were left out: in these formats the outputs were farther with them")
    return None
