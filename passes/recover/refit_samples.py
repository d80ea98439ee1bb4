"""The settings of compensation, and the samples that it uses: as many as the work and the disk allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from edgeprune import graph
from edgeprune.calibration import (
    ACTIVATION_BYTES,
    COMPENSATION,
    Calibration,
    Spool,
    StagedNetwork,
    largest_activation_bytes,
)
from edgeprune.graph import static_shape
from edgeprune.recovery import DAMPINGS, Sampling

SPOOL_BYTES = 10**9
"""Activations on disk at a time."""


@dataclass(frozen=True)
class CompensateSettings:
    """Settings of the fits.

    Attributes:
        sampling: how many rows are gathered for a layer.
        holdout_fraction: share of the samples on which damping and blend are chosen, and share of the samples on which
            the result is scored.
        blends: shares of the compressed network's inputs, the rest being the dense network's, to which a layer with few
            rows may be fitted; 1, its real inputs, is always a candidate.
        blended_rows: fewer rows per feature than this are few.
        dampings: candidates, as fractions of the mean diagonal of the covariance.
        most_features: a wider layer gets only a new bias: its covariance would take too much memory.
        uncut_features: a wider layer whose input lost no channels gets only a new bias: a refit gains too little.
        spool_bytes: activations on disk at a time; if they do not fit, they are stored as float16, and then fewer
            samples are used.
        seed: seed of the random rows and of the held-out samples.
        threads: threads of onnxruntime.
    """

    sampling: Sampling = field(default_factory=Sampling)
    holdout_fraction: float = 0.125
    blends: tuple[float, ...] = (0.5,)
    blended_rows: float = 8.0
    dampings: tuple[float, ...] = DAMPINGS
    most_features: int = 6144
    uncut_features: int = 1152
    spool_bytes: int = SPOOL_BYTES
    seed: int = 0
    threads: int = 1


def choose_samples(
    models: Sequence[ir.Model],
    networks: Sequence[StagedNetwork],
    calibration: Calibration,
    settings: CompensateSettings,
    spool: Spool,
) -> tuple[tuple[Calibration, Calibration], Calibration]:
    """Samples to fit on, to choose on and to score on: as many as the work allows and fit on the disk."""
    sized = [_sized(m, calibration) for m in models]
    each = max(1, sum(network.stored_bytes(m) for network, m in zip(networks, sized, strict=True)))
    macs = max(1, sum(graph.count_macs(sized[0]).values()))
    wanted = min(calibration.items, COMPENSATION.of(macs))
    spool.half = wanted * each > settings.spool_bytes
    most = max(2, settings.spool_bytes // (each // 2 if spool.half else each))
    rest, scored = calibration.subset(min(wanted, most)).split(settings.holdout_fraction, settings.seed)
    parts = rest.split(settings.holdout_fraction, settings.seed + 1) if rest.items > 1 else (rest, scored)
    return parts, scored


def _sized(model: ir.Model, data: Calibration) -> ir.Model:
    """The model with the sizes of the data, or itself if no size is open."""
    if all(static_shape(o) is not None for node in model.graph for o in node.outputs):
        return model
    shapes = {name: array.shape for name, array in next(iter(data.batches(1))).items()}
    return graph.infer_shapes(graph.clone(model), shapes)


def batch_size(dense: ir.Model, calibration: Calibration) -> int:
    """Samples of a batch whose largest activation stays below ``ACTIVATION_BYTES``."""
    if not calibration.batchable:
        return 1
    return max(1, min(calibration.batch_size, ACTIVATION_BYTES // max(1, largest_activation_bytes(dense))))
