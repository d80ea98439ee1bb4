"""Rows of many linear layers, gathered in one streaming pass over the calibration data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, Feeds, IntermediateOutputs
from edgeprune.errors import CalibrationError
from edgeprune.graph import Linear
from edgeprune.support import prefetch

ACTIVATION_BYTES = 128 << 20
"""A batch is made small enough that the activations it gives out stay below this."""


@dataclass(frozen=True)
class Sampling:
    """How many patches are gathered for a layer, at random positions spread evenly over the samples.

    Many patches are cheap for a narrow layer and dear for a wide one: their number follows from the cost of the layer's
    covariance, between bounds.

    Attributes:
        products: multiplications spent on a layer's covariances, rows times features times features and outputs.
        rows_per_feature: patches per feature at the least; with fewer a fit follows their noise.
        most_rows_per_feature: patches per feature beyond which a fit hardly changes; it bounds narrow layers.
        least_rows: patches at the least (all, where there are fewer).
        most_rows: patches at the most.
        seed: of the choice of positions.
    """

    products: float = 2.5e10
    rows_per_feature: float = 4.0
    most_rows_per_feature: float = 128.0
    least_rows: int = 8192
    most_rows: int = 65_536
    seed: int = 0

    def rows(self, features: int, outputs: int = 0) -> int:
        """Patches wanted for a layer; ``outputs`` where its outputs are gathered too."""
        affordable = round(self.products / (features * (features + outputs)))
        useful = min(self.most_rows, round(self.most_rows_per_feature * features))
        return max(self.least_rows, round(self.rows_per_feature * features), min(affordable, useful))

    def choose(
        self, rng: np.random.Generator, positions: int, features: int, share: float, outputs: int = 0
    ) -> NDArray[np.int64]:
        """Sorted positions to take from one batch that holds ``share`` of all samples."""
        wanted = max(1, round(self.rows(features, outputs) * share))
        if wanted >= positions:
            return np.arange(positions)
        return np.sort(rng.choice(positions, wanted, replace=False)).astype(np.int64)


def gather_rows(
    model: ir.Model, linears: Sequence[Linear], calibration: Calibration, sampling: Sampling, threads: int = 1
) -> Iterator[tuple[Linear, NDArray[Any]]]:
    """For every batch and layer, rows of the layer's input: shape (groups, rows, features).

    Raises:
        CalibrationError: an activation is NaN or infinite; the text names it.
    """
    inputs = {value.name for value in model.graph.inputs}
    intermediate = (
        IntermediateOutputs(model, [linear.input for linear in linears if linear.input not in inputs], threads)
        if any(linear.input not in inputs for linear in linears)
        else None
    )
    rng = np.random.default_rng(sampling.seed)

    def batches() -> Iterator[tuple[Feeds, int]]:
        for feeds, items in sized_batches(calibration, intermediate):
            yield {**feeds, **(intermediate.run(feeds) if intermediate else {})}, items

    for values, items in prefetch(batches()):
        for linear in linears:
            x = values[linear.input]
            chosen = sampling.choose(rng, linear.positions(x.shape), linear.features, items / calibration.items)
            rows = linear.rows(x, chosen)
            require_finite(rows, linear.input)
            yield linear, rows


def sized_batches(calibration: Calibration, intermediate: IntermediateOutputs | None) -> Iterator[tuple[Feeds, int]]:
    """Batches with how many items each holds, sized by what one item's activations take in memory."""
    size = calibration.batch_size
    if intermediate is not None and calibration.batchable:
        first = next(iter(calibration.batches(1)))
        size = max(1, min(size, ACTIVATION_BYTES // max(1, sum(a.nbytes for a in intermediate.run(first).values()))))
    for feeds in calibration.batches(size):
        yield feeds, len(next(iter(feeds.values()))) if calibration.batchable else 1


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise CalibrationError if an activation is NaN or infinite."""
    if not np.isfinite(array.sum(dtype=np.float64)):
        raise CalibrationError(f"activation {name!r} is NaN or infinite on the calibration data")
