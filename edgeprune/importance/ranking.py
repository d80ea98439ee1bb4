"""Rank the units of every group of a model by a criterion of the registry."""

from __future__ import annotations

import onnx_ir as ir

from edgeprune.calibration import Calibration
from edgeprune.dependency import Analysis, Ranking
from edgeprune.errors import CalibrationError
from edgeprune.importance import activation, gradient, magnitude, obs, output, scale
from edgeprune.importance.context import Context
from edgeprune.importance.reader_refits import ReaderRefits
from edgeprune.importance.registry import find_criterion
from edgeprune.recovery import Moments

__all__ = ["activation", "gradient", "magnitude", "obs", "output", "rank", "scale"]


def rank(
    name: str,
    model: ir.Model,
    analysis: Analysis,
    calibration: Calibration | None = None,
    step: int = 1,
    seed: int = 0,
    shared: dict[str, Moments] | None = None,
    refits: dict[str, ReaderRefits] | None = None,
) -> dict[str, Ranking]:
    """Rank the units of every group of a model.

    Args:
        name: a registered criterion.
        model: the dense canonical model.
        analysis: of this model.
        calibration: samples, for criteria that need data.
        step: how many units will be removed at a time (the target's channel step).
        seed: seed of the random rows.
        shared: covariances by node, kept for later calls with the same model and data; None to keep none.
        refits: keeps the refits that ``obs`` makes, by group; None to keep none.

    Returns:
        Group id -> order of removal and predicted loss after each removal. ``obs`` predicts the squared error of the
        refitted layers that read the group, relative to the variance of their outputs and summed over them. The other
        criteria give the removed share of their total score.

    Raises:
        UsageError: there is no such criterion.
        CalibrationError: the criterion needs data and there is none, or an activation is NaN or infinite.
    """
    criterion = find_criterion(name)
    if criterion.needs_data and calibration is None:
        raise CalibrationError(f"criterion {name!r} needs calibration data")
    return dict(criterion.rank(Context(model, analysis.groups, calibration, step, seed, shared, refits)))
