"""Activation ranges for INT8: streaming histograms, and the range that each of five calibrators proposes.

Histograms take two passes over the calibration data, with memory independent of its size: the first pass finds each
tensor's extremes, the second counts the values between them. From the histogram every calibrator proposes a range:

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
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import IntermediateOutputs
from edgeprune.errors import CalibrationError
from edgeprune.support import prefetch

BINS = 2048
LEVELS = 256
"""Integers of 8 bits."""
VALUES_PER_BATCH = 50_000
"""Values of a tensor that are counted per batch."""
CALIBRATORS = ("max", "p99.999", "p99.99", "mse", "entropy")


class Batches(Protocol):
    """Anything that can yield its feeds several times, such as a calibration set."""

    def batches(self) -> Iterable[Mapping[str, NDArray[Any]]]:
        """All feeds by input name, from the start."""


@dataclass(frozen=True)
class Range:
    """The interval that INT8 covers for a tensor, and the calibrator that proposed it."""

    low: float
    high: float
    calibrator: str


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


def histograms(model: ir.Model, names: Iterable[str], data: Batches, threads: int = 1) -> dict[str, Histogram]:
    """Histogram of every named value over the data.

    Raises:
        CalibrationError: if a value is NaN or infinite, naming it, or if the data is empty.
    """
    names = list(names)
    if not names:
        return {}
    intermediate = IntermediateOutputs(model, names, threads)
    found = extremes(intermediate, data.batches())
    if bad := [n for n in intermediate.names if not np.isfinite(found.get(n, np.inf)).all()]:
        raise CalibrationError(f"activation {bad[0]!r} is not finite on the calibration data, or there is no data")
    counts = {n: np.zeros(BINS) for n in intermediate.names}
    for values in prefetch(intermediate.run(feeds) for feeds in data.batches()):
        for name, x in values.items():
            counts[name] += _count(x, *found[name])
    return {n: Histogram(*found[n], counts[n]) for n in intermediate.names}


def extremes(
    intermediate: IntermediateOutputs, batches: Iterable[Mapping[str, NDArray[Any]]]
) -> dict[str, tuple[float, float]]:
    """Value name -> smallest and largest number on all batches, for every value that has any."""
    found: dict[str, tuple[float, float]] = {}
    for values in prefetch(intermediate.run(feeds) for feeds in batches):
        for name, x in values.items():
            if x.size:
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(x.min())), max(high, float(x.max()))
    return found


def _count(x: NDArray[Any], low: float, high: float) -> NDArray[np.int64]:
    """Counts per bin; only every n-th value is counted if there are more than ``VALUES_PER_BATCH``."""
    x = x.ravel()
    x = x[:: max(1, x.size // VALUES_PER_BATCH) | 1]  # an odd stride visits all positions of power-of-two rows
    if high <= low:
        return np.bincount([0], weights=None, minlength=BINS) * x.size
    index = ((x.astype(np.float32) - np.float32(low)) * np.float32(BINS / (high - low))).astype(np.int32)
    return np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)


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
