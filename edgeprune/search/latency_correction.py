"""Correction of a latency model by a few noisy measurements: what share of the budget each candidate needs.

    log(measured share of the budget / predicted latency) = level + kind + drift(log predicted) + own

Only the sizes of these four terms are known in advance. So this is Gaussian process regression (Rasmussen & Williams
2006, equations 2.22 to 2.26) with the kernel of that sum; the drift is an Ornstein-Uhlenbeck process. It has these
effects:

* A measurement of one candidate says much about another one with nearly the same predicted latency, and less about one
  whose prediction is further away.
* A measurement of an uncut network says less about cut networks.
* A short measurement counts less than a long one.
* Several short measurements that contradict each other give a value between them, not the last one.

A shared machine has phases of seconds to minutes that slow down INT8 networks and float networks by different factors.
They disturb a comparison with the original, and the interval of a single measurement does not show that. So
measurements are compared with each other by an anchor that is part of all of them. The anchor is compared with the
budget by all measurements together. All measurements get the additional noise that makes them most likely
(equation 5.8).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVEL = 1.0
"""Prior standard deviations of the four terms: of the error of the whole model,"""
KIND = 0.05
"""of the additional error for cut networks against uncut ones,"""
DRIFT, REACH = 0.05, 1.5
"""of the part that changes with the predicted latency, and the distance (as a logarithm) over which it decays,"""
OWN = 0.01
"""and of the difference between candidates with the same predicted latency."""
ANCHOR = 0.01
"""Error of one measurement of an anchor, as a standard deviation of the logarithm, while there is only one."""
HIDDEN = (0.0, 0.01, 0.02, 0.04)
"""Possible standard deviations of the additional noise; measurements that claim no noise at all get none."""
LEAST_NOISE = 1e-6
"""Keeps the equations solvable where one candidate was measured twice, both times without noise."""
FURTHEST, STEPS = 2.0, 40
"""Where the latency of a share is searched: its distance from all measured ones, as a logarithm; and the bisections."""


@dataclass(frozen=True)
class Estimate:
    """The share of the budget that a candidate needs, and the standard deviation of its logarithm."""

    share: float
    noise: float


@dataclass(frozen=True)
class _Measured:
    """A measurement of a candidate.

    Attributes:
        key: identifies the candidate.
        is_cut: whether anything was removed.
        log_us: logarithm of its predicted latency.
        log_factor: logarithm of its latency, in units of the anchor's, over the predicted one.
        noise: standard deviation of ``log_factor``.
    """

    key: Hashable
    is_cut: bool
    log_us: float
    log_factor: float
    noise: float


@dataclass(eq=False)
class LatencyCorrection:
    """All measurements so far, and what they say about other candidates."""

    _all: list[_Measured] = field(default_factory=list)
    _anchors: list[float] = field(default_factory=list)
    _hidden: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured yet."""
        return not self._all

    @property
    def least_noise(self) -> float:
        """Uncertainty of a candidate that is measured as precisely as the best measurement so far."""
        return math.hypot(min(m.noise for m in self._all), self._hidden, self._anchor()[1])

    def add(
        self, key: Hashable, predicted_us: float, measured: Estimate, *, is_cut: bool, anchor: float | None = None
    ) -> None:
        """Add a measurement.

        Args:
            key: identifies the candidate.
            predicted_us: its predicted latency, microseconds.
            measured: its measured share of the budget; the noise is that of its latency over the anchor's.
            is_cut: whether anything was removed.
            anchor: the anchor's share of the budget in the same measurement; None in all measurements if there is none.
        """
        if anchor is not None:
            self._anchors.append(math.log(anchor))
        factor = math.log(measured.share / (anchor or 1.0) / predicted_us)
        self._all.append(_Measured(key, is_cut, math.log(predicted_us), factor, max(measured.noise, LEAST_NOISE)))
        self._hidden = max(HIDDEN, key=self._log_likelihood)

    def expected(self, predicted_us: float, key: Hashable = None, *, is_cut: bool) -> Estimate:
        """The share of the budget that a candidate needs, by all measurements.

        Its own measurements count as such if the key is known.

        Raises:
            ValueError: nothing was measured yet.
        """
        if not self._all:
            raise ValueError("no candidate was measured yet")
        new = _Measured(key, is_cut, math.log(predicted_us), 0.0, 0.0)
        factors = np.array([m.log_factor for m in self._all])
        known = self._covariance(self._hidden)
        between = _kernel(self._all, [new])[:, 0]
        weights = np.linalg.solve(known, between)
        # Their average is the prior mean: it is the best guess far from all measurements.
        factor = factors.mean() + weights @ (factors - factors.mean())
        variance = _kernel([new], [new])[0, 0] - weights @ between
        anchor, scatter = self._anchor()
        return Estimate(predicted_us * math.exp(factor + anchor), math.sqrt(max(variance, 0.0) + scatter**2))

    def _covariance(self, hidden: float) -> NDArray[np.float64]:
        """Covariance of the measured factors with this additional noise."""
        noises = [m.noise if m.noise == LEAST_NOISE else math.hypot(m.noise, hidden) for m in self._all]
        return np.asarray(_kernel(self._all, self._all) + np.diag(np.square(noises)))

    def _log_likelihood(self, hidden: float) -> float:
        """Log-likelihood of the measurements with this additional noise, up to a constant."""
        known = self._covariance(hidden)
        factors = np.array([m.log_factor for m in self._all])
        off = factors - factors.mean()
        return float(-(off @ np.linalg.solve(known, off) + np.linalg.slogdet(known)[1]) / 2)

    def _anchor(self) -> tuple[float, float]:
        """Logarithm of the anchor's share of the budget, and its standard deviation."""
        if not self._anchors:
            return 0.0, 0.0
        logs, count = np.array(self._anchors), len(self._anchors)
        variance = (ANCHOR**2 + np.square(logs - logs.mean()).sum()) / count
        return float(logs.mean()), math.sqrt(variance / count)

    def predicted_us(self, share: float, *, is_cut: bool) -> float:
        """The predicted latency of candidates that are expected to need this share of the budget, microseconds."""
        low, high = (end(m.log_us for m in self._all) for end in (min, max))
        low, high = low - FURTHEST, high + FURTHEST
        for _ in range(STEPS):
            middle = (low + high) / 2
            if self.expected(math.exp(middle), is_cut=is_cut).share > share:
                high = middle
            else:
                low = middle
        return math.exp(low)


def _kernel(a: list[_Measured], b: list[_Measured]) -> NDArray[np.float64]:
    """Covariance of the factors of two lists of candidates, shape (len(a), len(b))."""
    return np.array([[_covariance(one, other) for other in b] for one in a])


def _covariance(a: _Measured, b: _Measured) -> float:
    drift = DRIFT**2 * math.exp(-abs(a.log_us - b.log_us) / REACH)
    return LEVEL**2 + KIND**2 * (a.is_cut == b.is_cut) + drift + OWN**2 * (a.key == b.key)
