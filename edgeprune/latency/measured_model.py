"""Latency of a network on a GPU that was measured there: the analytic model's stairs, with the device's own heights.

    T(w, f) = correction * ( sum_b  heights[b, f] . (launch, ideal_b(w), analytic_b(w, f))  +  conversions  +  call )

The analytic model knows where the stairs are (alignment, tiles, waves); how high they are, tells the device. A launch's
time is made of a constant, of its arithmetic and traffic at the device's peak, and of what the analytic model says. The
heights are non-negative (Lawson & Hanson 1974), so what is predicted never rises when an aligned width shrinks, and few
measurements are enough: where nothing speaks against it, a launch is as many times slower than thought as the whole
network is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from edgeprune.dependency import Widths
from edgeprune.latency.analytic_model import AnalyticModel
from edgeprune.latency.block_latency import Edge, Format, sum_us

PRIOR_WEIGHT = 0.0025
"""Weight of the network's own ratio against one measurement of a launch: the square of what a launch's time is known
to (5%), against heights that may be off by their whole size."""

_LEAST_SHARE = 0.25
"""Below this share of what was expected a time is known no better, in relative terms: it drowns in the profiler."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One measured network: widths of shape (groups,), a format and microseconds per launch, and of an inference."""

    widths: Widths
    formats: tuple[Format, ...]
    launch_us: tuple[float, ...]
    total_us: float


@dataclass(frozen=True, eq=False)
class MeasuredModel:
    """Fitted heights of one network's launches on one device.

    Attributes:
        analytic: where the stairs are.
        heights: (launch, format) -> three numbers; a format that a launch was not measured in is not offered.
        call_base_us: microseconds of an inference besides its launches.
        error: median relative error on whole networks that were left out of the fit, as a fraction.
        correction: factor on everything, learnt from whole-network measurements.
    """

    analytic: AnalyticModel
    heights: Mapping[tuple[int, Format], NDArray[np.float64]]
    call_base_us: float
    error: float
    correction: float = 1.0
    _offered: dict[int, tuple[Format, ...]] = field(default_factory=dict, repr=False)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Pairs of launches that read the same computed tensor."""
        return self.analytic.edges

    @property
    def sizes(self) -> Widths:
        """Units of every group in the dense network, shape (groups,)."""
        return self.analytic.sizes

    @property
    def block_groups(self) -> tuple[frozenset[int], ...]:
        """Per launch, the groups whose widths its time depends on."""
        return self.analytic.block_groups

    @property
    def call_us(self) -> float:
        """Microseconds of an inference besides its launches."""
        return self.correction * self.call_base_us

    def formats(self, block: int) -> tuple[Format, ...]:
        """Formats that the launch was measured in."""
        if block not in self._offered:
            self._offered[block] = tuple(f for f in self.analytic.formats(block) if (block, f) in self.heights)
        return self._offered[block]

    def block_us(self, block: int, fmt: Format, widths: Widths) -> float:
        """Time of one launch, microseconds."""
        return self.correction * float(self.heights[block, fmt] @ _features(self.analytic, block, fmt, widths))

    def edge_us(self, edge: Edge, writer: Format, reader: Format, widths: Widths) -> float:
        """Cost of converting a tensor that one launch reads in integers and another in float, microseconds."""
        return self.correction * self.analytic.edge_us(edge, writer, reader, widths)

    def total_us(self, widths: Widths, formats: Sequence[Format]) -> float:
        """Predicted time of the network, microseconds."""
        return sum_us(self, widths, formats)

    def corrected(self, factor: float) -> MeasuredModel:
        """The same model with every time multiplied by ``factor``: how a measurement is fed back."""
        return replace(self, correction=self.correction * factor)


def fit_measured(analytic: AnalyticModel, samples: Sequence[Sample]) -> MeasuredModel:
    """The model that explains the samples; its error is that on samples that were left out.

    Args:
        analytic: of the same network on the same device; with a correction of 1.
        samples: of the network, at least one.
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
    """The analytic model with the level of every kind of launch as the device measured it on another network.

    Args:
        analytic: of this network.
        ratios: ``<kind> <format>`` -> measured over analytic time; kinds that are not named take their median.
    """
    typical = float(np.median(list(ratios.values())))
    heights = {
        (b, f): np.array([0.0, 0.0, ratios.get(f"{analytic.kernel(b, analytic.sizes).kind} {f}", typical)])
        for b in range(len(analytic.launches))
        for f in analytic.formats(b)
    }
    return MeasuredModel(analytic, heights, analytic.call_us, analytic.error)


def _fit(analytic: AnalyticModel, samples: Sequence[Sample]) -> MeasuredModel:
    features = [[_features(analytic, b, f, s.widths) for b, f in enumerate(s.formats)] for s in samples]
    expected = [sum(float(x[-1]) for x in mine) for mine in features]
    ratio = float(np.median([sum(s.launch_us) / e for s, e in zip(samples, expected, strict=True)]))
    rows: dict[tuple[int, Format], list[tuple[NDArray[np.float64], float]]] = {}
    for s, mine in zip(samples, features, strict=True):
        for b, (f, us, x) in enumerate(zip(s.formats, s.launch_us, mine, strict=True)):
            rows.setdefault((b, f), []).append((x, us))
    heights = {
        key: _heights(np.stack([x for x, _ in pairs]), np.array([us for _, us in pairs]), ratio)
        for key, pairs in rows.items()
    }
    call_us = float(np.median([max(0.0, s.total_us - sum(s.launch_us)) for s in samples]))
    model = MeasuredModel(analytic, heights, call_us, 0.0)
    fitted = [abs(model.total_us(s.widths, s.formats) / s.total_us - 1) for s in samples]
    return replace(model, error=float(np.median(fitted)))


def _features(analytic: AnalyticModel, block: int, fmt: Format, widths: Widths) -> NDArray[np.float64]:
    """What a launch's time is made of, microseconds: a constant, its ideal time, and its analytic one."""
    ideal_us, analytic_us = analytic.ideal_us(block, widths), analytic.block_us(block, fmt, widths)
    return np.array([analytic.device.launch_us, ideal_us, analytic_us])


def _heights(features: NDArray[np.float64], us: NDArray[np.float64], ratio: float) -> NDArray[np.float64]:
    """Non-negative heights of least relative error, drawn to (0, 0, ratio).

    Args:
        features: shape (n, 3).
        us: measured, shape (n,).
        ratio: how many times as long as thought the network takes.
    """
    from scipy.optimize import nnls

    scale = np.maximum(us, _LEAST_SHARE * ratio * features[:, -1])
    typical = features.mean(axis=0)
    pull = np.sqrt(PRIOR_WEIGHT)
    prior = pull * np.diag(typical / (ratio * typical[-1]))
    wanted = np.concatenate([us / scale, pull * np.array([0.0, 0.0, 1.0])])
    solution, _ = nnls(np.vstack([features / scale[:, None], prior]), wanted)
    return np.asarray(solution)
