"""Measured latency model of a network on a GPU: the analytic model's stairs, with heights that the device measured.

    T(w, f) = correction * ( sum_b  heights[b, f] . (launch, ideal_b(w), analytic_b(w, f))  +  conversions  +  call )

The analytic model gives the positions of the stairs (alignment, tiles, waves), and the device gives their heights. The
latency of a kernel is a combination of the launch overhead, its latency at the device's peak, and the analytic latency.
The heights are non-negative (Lawson & Hanson 1974), so the prediction never rises if an aligned width shrinks. Few
measurements are enough: without other evidence a kernel deviates from the analytic latency by the same factor as the
whole network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency.analytic_model import AnalyticModel
from edgeprune.latency.block_latency import Edge, Format, rescaled, sum_us

PRIOR_WEIGHT = 0.0025
"""Weight of the network's own ratio against one measurement of a kernel: the square of the measurement's relative error
(5%), against heights whose relative error may be 1."""

_LEAST_SHARE = 0.25
"""The relative error of a measured latency grows below this share of the expected one: the profiler's noise."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One measured network: widths of shape (groups,), format and microseconds of each block, and of an inference."""

    widths: Widths
    formats: tuple[Format, ...]
    block_us: tuple[float, ...]
    total_us: float


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """Fitted heights of one network's kernels on one device. Every kernel is a block.

    Attributes:
        analytic: gives the positions of the stairs.
        heights: (block, format) -> three numbers; a block has only the formats in which it was measured.
        call_base_us: microseconds of an inference besides its kernels.
        error: median relative error on whole networks that were left out of the fit, as a fraction.
        correction: factor of all latencies, from measurements of whole networks.
        wide: the analytic model with the blocks in FP32 that have to be; they were measured in FP16.
    """

    analytic: AnalyticModel
    heights: Mapping[tuple[int, Format], NDArray[np.float64]]
    call_base_us: float
    error: float
    correction: float = 1.0
    wide: AnalyticModel | None = None
    _offered: dict[int, tuple[Format, ...]] = field(default_factory=dict, repr=False)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Pairs of blocks that read the same computed tensor."""
        return self.analytic.edges

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.analytic.sizes

    @property
    def block_groups(self) -> tuple[frozenset[int], ...]:
        """Per block, the groups whose widths its latency depends on."""
        return self.analytic.block_groups

    @property
    def call_us(self) -> float:
        """Microseconds of an inference besides its kernels."""
        return self.correction * self.call_base_us

    total_us = sum_us
    corrected = rescaled

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats in which the block was measured."""
        if block not in self._offered:
            self._offered[block] = tuple(f for f in self.analytic.formats(block) if (block, f) in self.heights)
        return self._offered[block]

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Predicted latency of one block, microseconds."""
        if self.analytic.is_gone(block, widths):
            return 0.0
        measured = float(self.heights[block, fmt] @ _features(self.analytic, block, fmt, widths))
        if self.wide is not None and block in self.wide.wide:
            measured *= self.wide.block_us(block, fmt, widths) / self.analytic.block_us(block, fmt, widths)
        return self.correction * measured

    def in_float32(self, blocks: Iterable[int]) -> MeasuredModel:
        """The same model with these blocks in FP32 where their format is FP16, slower as the analytic model says."""
        return replace(self, wide=self.analytic.in_float32(blocks))

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Latency of the reformat of a tensor that one block reads in INT8 and the other in float, microseconds."""
        return self.correction * self.analytic.edge_us(edge, writer, reader, widths)


def fit_measured(analytic: AnalyticModel, samples: Sequence[Sample]) -> MeasuredModel:
    """Fit a model to samples; its error is the error on samples that were left out of the fit.

    Args:
        analytic: analytic model of the same network on the same device, with a correction of 1.
        samples: at least one sample of the network.
    """
    model = _fit(analytic, samples)
    errors = []
    for i, left_out in enumerate(samples):
        rest = [s for k, s in enumerate(samples) if k != i]
        known = {(b, f) for s in rest for b, f in enumerate(s.formats)}
        if all((b, f) in known for b, f in enumerate(left_out.formats)):
            predicted = _fit(analytic, rest).total_us(left_out.widths, left_out.formats)
            errors.append(abs(predicted / left_out.total_us - 1))
    return replace(model, error=float(np.median(errors)) if errors else model.error)


def scaled(analytic: AnalyticModel, ratios: Mapping[str, float]) -> MeasuredModel:
    """The analytic model, with every kind of kernel scaled as the device measured it on another network.

    Args:
        analytic: analytic model of this network.
        ratios: ``<kind> <format>`` -> measured divided by analytic latency; kinds that are not named get the median.
    """
    typical = float(np.median(list(ratios.values())))
    heights = {
        (b, f): np.array([0.0, 0.0, ratios.get(f"{analytic.kernel(b, analytic.sizes).kind} {f}", typical)])
        for b in range(len(analytic.clusters))
        for f in analytic.formats(b)
    }
    return MeasuredModel(analytic, heights, analytic.call_us, analytic.error)


def _fit(analytic: AnalyticModel, samples: Sequence[Sample]) -> MeasuredModel:
    features = [[_features(analytic, b, f, s.widths) for b, f in enumerate(s.formats)] for s in samples]
    expected = [sum(float(x[-1]) for x in mine) for mine in features]
    ratio = float(np.median([sum(s.block_us) / e for s, e in zip(samples, expected, strict=True)]))
    rows: dict[tuple[int, Format], list[tuple[NDArray[np.float64], float]]] = {}
    for s, mine in zip(samples, features, strict=True):
        for b, (f, us, x) in enumerate(zip(s.formats, s.block_us, mine, strict=True)):
            rows.setdefault((b, f), []).append((x, us))
    heights = {
        key: _heights(np.stack([x for x, _ in pairs]), np.array([us for _, us in pairs]), ratio)
        for key, pairs in rows.items()
    }
    call_us = float(np.median([max(0.0, s.total_us - sum(s.block_us)) for s in samples]))
    model = MeasuredModel(analytic, heights, call_us, 0.0)
    fitted = [abs(model.total_us(s.widths, s.formats) / s.total_us - 1) for s in samples]
    return replace(model, error=float(np.median(fitted)))


def _features(analytic: AnalyticModel, block: int, fmt: Format, widths: Widths) -> NDArray[np.float64]:
    """Terms of a kernel's latency, microseconds: launch overhead, latency at the device's peak, analytic latency."""
    ideal_us, analytic_us = analytic.ideal_us(block, widths), analytic.block_us(block, fmt, widths)
    return np.array([analytic.device.launch_us, ideal_us, analytic_us])


def _heights(features: NDArray[np.float64], us: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Non-negative heights of least relative error, with a prior at (0, 0, ratio).

    Args:
        features: shape (n, 3).
        us: measured latencies, shape (n,).
        ratio: measured divided by analytic latency of the network.
    """
    from scipy.optimize import nnls

    scale = np.maximum(us, _LEAST_SHARE * ratio * features[:, -1])
    typical = features.mean(axis=0)
    pull = np.sqrt(PRIOR_WEIGHT)
    prior = pull * np.diag(typical / (ratio * typical[-1]))
    wanted = np.concatenate([us / scale, pull * np.array([0.0, 0.0, 1.0])])
    solution, _ = nnls(np.vstack([features / scale[:, None], prior]), wanted)
    return np.asarray(solution)
