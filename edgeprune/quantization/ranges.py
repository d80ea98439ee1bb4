"""Activation ranges for INT8: streaming histograms, and the range that each of five calibrators proposes.

Histograms take one pass over the calibration data, with memory independent of its size. The values are counted in fine
bins, which are made wider when a batch goes beyond them. From the histogram every calibrator proposes a range:

    max       the extremes
    p99.999   the central 99.999% of the values
    p99.99    the central 99.99%
    mse       the range of least expected squared error over a grid of shrink factors (Nagel et al. 2021, section 3.1.1)
    entropy   the range of least KL divergence to the float histogram (Migacz 2017)

The expected error counts rounding inside the range (step^2 / 12) and clipping outside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Calibration, IntermediateOutputs
from edgeprune.errors import CalibrationError
from edgeprune.support import prefetch

BINS = 2048
FINE_BINS = 8 * BINS
"""Bins while values are still counted: fine enough that widening them does not blur the result."""
ROOM = 0.5
"""Share of the range by which the bins reach beyond a new extreme."""
LEVELS = 256
"""Integers of 8 bits."""
VALUES_PER_BATCH = 50_000
"""Values of a tensor that are counted per batch."""
CALIBRATORS = ("max", "p99.999", "p99.99", "mse", "entropy")


@dataclass(frozen=True)
class Range:
    """The interval that INT8 covers for a tensor, and the calibrator that proposed it."""

    low: float
    high: float
    calibrator: str

    def joined(self, others: Iterable[Range]) -> Range:
        """One range for this tensor and others, with the calibrator of this one."""
        every = [self, *others]
        return Range(min(r.low for r in every), max(r.high for r in every), self.calibrator)


def trained_range(low: float, high: float, least: float, calibrator: str, *, symmetric: bool) -> Range:
    """The range that an activation was trained with, on the grid of the target.

    Args:
        low: its lower end.
        high: its upper end.
        least: the smallest value that the activation has on the samples.
        calibrator: that would have proposed its range.
        symmetric: whether the grid of the target is.
    """
    if symmetric:  # a signed grid has one step more below zero
        high = max(high, -low * 127 / 128)
        return Range(-high, high, calibrator)
    # A signed grid behind a Relu wastes its lower half, which unsigned INT8 does not need.
    return Range(0.0 if least >= 0 else low, high, calibrator)


@dataclass(frozen=True, eq=False)
class Histogram:
    """Counts of a tensor's values in ``BINS`` equal bins between its extremes."""

    low: float
    high: float
    counts: NDArray[np.float64]

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle of every bin."""
        edges = np.linspace(self.low, self.high, len(self.counts) + 1)
        return np.asarray((edges[:-1] + edges[1:]) / 2)


def histograms(model: ir.Model, names: Iterable[str], data: Calibration, threads: int = 1) -> dict[str, Histogram]:
    """Histogram of every named value over the data.

    Raises:
        CalibrationError: if a value is NaN or infinite, naming it, or if the data is empty.
    """
    names = list(names)
    if not names:
        return {}
    counters = {n: _Counter() for n in names}
    intermediate = IntermediateOutputs(model, counters, threads)
    seen: set[str] = set()
    for values in prefetch(intermediate.run(feeds) for feeds in intermediate.batches(data)):
        seen.update(values)
        for name, x in values.items():
            if x.size:
                counters[name].add(x, name)
    for name in seen & {n for n, counter in counters.items() if not counter.has_values}:
        counters[name].add(np.zeros(1, np.float32), name)  # padding by nothing: any range will do
    if bad := [n for n, counter in counters.items() if not counter.has_values]:
        raise CalibrationError(f"activation {bad[0]!r} has no values: there is no data")
    return {n: counter.histogram() for n, counter in counters.items()}


def extremes(
    intermediate: IntermediateOutputs, batches: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, tuple[float, float]]:
    """Value name -> smallest and largest number on all batches; zeros for a value of length 0."""
    found: dict[str, tuple[float, float]] = {}
    empty: dict[str, tuple[float, float]] = {}
    for values in prefetch(intermediate.run(feeds) for feeds in batches):
        for name, x in values.items():
            if x.size:
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(x.min())), max(high, float(x.max()))
            else:
                empty[name] = 0.0, 0.0
    return {**empty, **found}


class _Counter:
    """Counts the values of one tensor, batch by batch."""

    def __init__(self) -> None:
        self._low, self._high = np.inf, -np.inf
        self._edges = 0.0, 0.0
        self._counts = np.zeros(FINE_BINS)

    @property
    def has_values(self) -> bool:
        return self._low <= self._high

    def add(self, x: NDArray[Any], name: str) -> None:
        """Count a batch; only every n-th value if there are more than ``VALUES_PER_BATCH``.

        Raises:
            CalibrationError: a value is NaN or infinite.
        """
        low, high = float(x.min()), float(x.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise CalibrationError(f"activation {name!r} is not finite on the calibration data")
        self._widen(low, high)
        x = x.ravel()
        x = x[:: max(1, x.size // VALUES_PER_BATCH) | 1]  # an odd stride visits all positions of power-of-two rows
        self._counts += _binned(x.astype(np.float32, copy=False), None, *self._edges, FINE_BINS)

    def histogram(self) -> Histogram:
        """All counts between the extremes."""
        counts = _binned(self._centers(), self._counts, self._low, self._high, BINS)
        return Histogram(self._low, self._high, counts)

    def _widen(self, low: float, high: float) -> None:
        """Take up new extremes; the bins then reach well beyond them, so that they are seldom widened again."""
        first = not self.has_values
        self._low, self._high = min(self._low, low), max(self._high, high)
        start, stop = self._edges
        if start <= low and high <= stop and not first:
            return
        room = 0.0 if first else ROOM * (self._high - self._low)
        edges = (
            self._low - room * (self._low < start or first),
            self._high + room * (self._high > stop or first),
        )
        if not first:
            self._counts = _binned(self._centers(), self._counts, *edges, FINE_BINS)
        self._edges = edges

    def _centers(self) -> NDArray[np.float64]:
        start, stop = self._edges
        return np.asarray(start + (np.arange(FINE_BINS) + 0.5) * ((stop - start) / FINE_BINS))


def _binned(
    x: NDArray[Any], weights: NDArray[np.float64] | None, low: float, high: float, bins: int
) -> NDArray[np.float64]:
    """Counts, or sums of the weights, of values in equal bins; values beyond count in the outer bins."""
    if high <= low:
        return np.asarray(np.eye(1, bins)[0] * (x.size if weights is None else weights.sum()))
    index = ((x - x.dtype.type(low)) * x.dtype.type(bins / (high - low))).astype(np.int64)
    return np.asarray(np.bincount(np.clip(index, 0, bins - 1), weights, minlength=bins), np.float64)


def propose(histogram: Histogram, *, symmetric: bool = False) -> dict[str, tuple[float, float]]:
    """Calibrator name -> the (low, high) that it proposes; see `range_by`."""
    found = (range_by(name, histogram, symmetric=symmetric) for name in CALIBRATORS)
    return {r.calibrator: (r.low, r.high) for r in found}


def range_by(calibrator: str, histogram: Histogram, *, symmetric: bool = False) -> Range:
    """The range that one calibrator proposes; zero always lies inside.

    ``symmetric``: whether the range is [-a, a], as TensorRT needs.
    """
    low, high = min(histogram.low, 0.0), max(histogram.high, 0.0)
    if symmetric:
        high = max(-low, high)
        low = -high
    if calibrator.startswith("p"):
        return Range(*_percentile(histogram, float(calibrator[1:]), symmetric), calibrator)
    if calibrator != "max":
        error = expected_error if calibrator == "mse" else _divergence
        shrunk = [_shrink(low, high, f, symmetric) for f in np.linspace(1.0, 0.3, 36)]
        low, high = min(shrunk, key=lambda r: error(histogram, r[0], r[1]))
    return Range(low, high, calibrator)


def expected_error(histogram: Histogram, low: float, high: float) -> float:
    """Mean squared error of quantizing the tensor to 8 bits between ``low`` and ``high``."""
    total = histogram.counts.sum()
    if total == 0:
        return 0.0
    x = histogram.centers
    inside = (x >= low) & (x <= high)
    clipped = np.where(x < low, low - x, np.where(x > high, x - high, 0.0))
    step = (high - low) / (LEVELS - 1)
    # Zero is exact in every format, so the zeros of a ReLU have no rounding error.
    rounded = inside & (np.abs(x) > (histogram.high - histogram.low) / (2 * BINS))
    rounding = histogram.counts[rounded].sum() * step**2 / 12
    return float((rounding + (histogram.counts * clipped**2).sum()) / total)


def _shrink(low: float, high: float, factor: float, symmetric: bool) -> tuple[float, float]:
    """Move the upper bound towards zero; both bounds if they must stay symmetric or the lower one is large too."""
    if symmetric or -low > 0.5 * high:
        return low * factor, high * factor
    return low, high * factor


def _percentile(h: Histogram, percent: float, symmetric: bool) -> tuple[float, float]:
    total = h.counts.sum()
    if total == 0:
        return 0.0, 0.0
    x = h.centers
    if symmetric:
        order = np.argsort(np.abs(x))
        cumulative = np.cumsum(h.counts[order]) / total
        a = float(np.abs(x[order])[min(int(np.searchsorted(cumulative, percent / 100)), len(x) - 1)])
        return -a, a
    cumulative = np.cumsum(h.counts) / total
    tail = (1 - percent / 100) / 2
    low = float(x[min(int(np.searchsorted(cumulative, tail, side="right")), len(x) - 1)])
    high = float(x[min(int(np.searchsorted(cumulative, 1 - tail)), len(x) - 1)])
    return min(low, 0.0), max(high, 0.0)


def _divergence(h: Histogram, low: float, high: float) -> float:
    """KL divergence from the histogram clipped into [low, high] to the quantized one."""
    x = h.centers
    inside = (x >= low) & (x <= high)
    if inside.sum() < 2:
        return np.inf
    p = h.counts[inside].copy()
    p[0] += h.counts[x < low].sum()
    p[-1] += h.counts[x > high].sum()
    bucket = np.minimum((np.arange(len(p)) * min(LEVELS, len(p))) // len(p), LEVELS - 1)
    present = h.counts[inside] > 0
    mass, width = np.bincount(bucket, weights=h.counts[inside]), np.bincount(bucket, weights=present)
    q = np.where(present, (mass / np.maximum(width, 1))[bucket], 0.0)
    p, q = p / max(p.sum(), 1e-30), q / max(q.sum(), 1e-30)
    used = p > 0
    return float((p[used] * np.log(p[used] / np.maximum(q[used], 1e-12))).sum())
