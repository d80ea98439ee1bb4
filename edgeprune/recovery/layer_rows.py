"""Activations and rows of linear layers, gathered in one streaming pass over the calibration data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, Feeds, IntermediateOutputs
from edgeprune.errors import CalibrationError
from edgeprune.graph import Linear
from edgeprune.support import prefetch

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """How many rows are gathered for a layer, at random positions spread evenly over the samples.

    A row costs little for a narrow layer and much for a wide one. So the number of rows follows from the cost of the
    layer's covariance, within bounds.

    Attributes:
        macs: multiply-accumulates spent on a layer's covariances: rows times features times (features + outputs).
        rows_per_feature: fewest rows per feature; with fewer rows a fit follows their noise.
        most_rows_per_feature: rows per feature beyond which a fit hardly changes; it bounds narrow layers.
        least_rows: fewest rows (all rows, where there are fewer).
        most_rows: most rows.
        seed: seed of the random positions.
    """

    macs: float = 2.5e10
    rows_per_feature: float = 4.0
    most_rows_per_feature: float = 128.0
    least_rows: int = 8192
    most_rows: int = 65_536
    seed: int = 0

    def rows(self, features: int, outputs: int = 0) -> int:
        """How many rows to gather for a layer; ``outputs`` counts where its outputs are gathered too."""
        affordable = round(self.macs / (features * (features + outputs)))
        useful = min(self.most_rows, round(self.most_rows_per_feature * features))
        return max(self.least_rows, round(self.rows_per_feature * features), min(affordable, useful))

    def choose(
        self, rng: np.random.Generator, positions: int, features: int, share: float, outputs: int = 0
    ) -> NDArray[np.int64]:
        """Sorted positions of the rows to take from one batch, which holds ``share`` of all samples."""
        wanted = max(1, round(self.rows(features, outputs) * share))
        if wanted >= positions:
            return np.arange(positions)
        return np.sort(rng.choice(positions, wanted, replace=False)).astype(np.int64)


def gather_rows(
    model: ir.Model, linears: Sequence[Linear], calibration: Calibration, sampling: Sampling, threads: int = 1
) -> Iterator[tuple[Linear, NDArray[Any]]]:
    """For every batch and layer, rows of the layer's input: shape (groups, rows, features).

    Raises:
        CalibrationError: an activation is NaN or infinite; the message names it.
    """
    inputs = {value.name for value in model.graph.inputs}
    intermediate = (
        IntermediateOutputs(model, [linear.input for linear in linears if linear.input not in inputs], threads)
        if any(linear.input not in inputs for linear in linears)
        else None
    )
    rng = np.random.default_rng(sampling.seed)

    def batches() -> Iterator[tuple[Feeds, int]]:
        for feeds, items in _sized_batches(calibration, intermediate):
            yield {**feeds, **(intermediate.run(feeds) if intermediate else {})}, items

    for values, items in prefetch(batches()):
        for linear in linears:
            x = values[linear.input]
            chosen = sampling.choose(rng, linear.positions(x.shape), linear.features, items / calibration.items)
            rows = linear.rows(x, chosen)
            require_finite(rows, linear.input)
            yield linear, rows


def activations(
    model: ir.Model, names: Iterable[str], calibration: Calibration, threads: int = 1
) -> Iterator[tuple[dict[str, NDArray[Any]], int]]:
    """For every batch, the named activations and how many samples the batch holds.

    Raises:
        CalibrationError: an activation is NaN or infinite; the message names it.
    """
    intermediate = IntermediateOutputs(model, names, threads)
    for feeds, items in _sized_batches(calibration, intermediate):
        values = intermediate.run(feeds)
        for name, value in values.items():
            require_finite(value, name)
        yield values, items


def _sized_batches(calibration: Calibration, intermediate: IntermediateOutputs | None) -> Iterator[tuple[Feeds, int]]:
    """Batches and the number of samples in each; the batch size follows from the activations of one sample."""
    for feeds in calibration.batches() if intermediate is None else intermediate.batches(calibration):
        yield feeds, calibration.rows(feeds) if calibration.batchable else 1


def split_by_memory(items: Sequence[T], sizes: Iterable[int], most_bytes: int) -> tuple[list[T], list[T]]:
    """As many of the first items as fit into memory together, at least one, and the rest."""
    total = 0
    for count, size in enumerate(sizes):
        total += size
        if total > most_bytes and count:
            return list(items[:count]), list(items[count:])
    return list(items), []


def require_finite(array: NDArray[Any], name: str) -> None:
    """Raise CalibrationError if an activation is NaN or infinite."""
    if not np.isfinite(array.sum(dtype=np.float64)):
        raise CalibrationError(f"activation {name!r} is NaN or infinite on the calibration data")
