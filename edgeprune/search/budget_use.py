"""How much of a budget choices use up: what a latency model predicts, put right by a few measurements with noise.

    log(measured share of the budget / predicted time) = level + kind + drift(log predicted) + own

How large these four are is all that is known of them beforehand, so this is Gaussian process regression (Rasmussen &
Williams 2006, equations 2.22 to 2.26) with the kernel of that sum; the drift is an Ornstein-Uhlenbeck process. What it
is for: a measurement of one choice says much of another that is predicted to take nearly as long, less of one further
off, and less of cut networks where it was of an uncut one; a short measurement says less than a long one; and several
short ones that contradict each other settle on something between them, not on the last.

A machine that others use has phases of seconds to minutes in which networks in integers and in float are slowed down
by different factors. What is compared with the original is off by that, and no interval of a single measurement shows
it. So measurements are compared with each other by way of an anchor that is in all of them, and the anchor with the
budget by all of them together; and all have as much noise on top as makes what was measured most likely (equation 5.8).
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LEVEL = 1.0
"""Standard deviations beforehand of the four terms: of how far off the model is altogether,"""
KIND = 0.05
"""of how much more it is off for cut networks than for others,"""
DRIFT, REACH = 0.05, 1.5
"""of what changes with the predicted time, and over what distance, as a logarithm, that is forgotten,"""
OWN = 0.01
"""and of what distinguishes choices that are predicted to take the same time."""
ANCHOR = 0.01
"""What one measurement of an anchor is off, as a standard deviation of the logarithm, as long as there is only one."""
HIDDEN = (0.0, 0.01, 0.02, 0.04)
"""Standard deviations that this noise on top may have; measurements that claim to have no noise at all have none."""
LEAST_NOISE = 1e-6
"""Keeps the equations solvable where one choice was measured twice and both times without noise."""
FURTHEST, STEPS = 2.0, 40
"""Distance from all measured times, as a logarithm, within which a share's time is looked for, and the halvings."""


@dataclass(frozen=True)
class Use:
    """The share of the budget that a choice takes, and the standard deviation of its logarithm."""

    share: float
    noise: float


@dataclass(frozen=True)
class _Measured:
    """A measurement of a choice: logarithms of its predicted time, and of the share of the anchor's time over that."""

    key: Hashable
    is_cut: bool
    log_us: float
    log_factor: float
    noise: float


@dataclass(eq=False)
class BudgetUse:
    """What was measured so far, and what it says of other choices."""

    _all: list[_Measured] = field(default_factory=list)
    _anchors: list[float] = field(default_factory=list)
    _hidden: float = 0.0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was measured yet."""
        return not self._all

    @property
    def least_noise(self) -> float:
        """How well a choice may be known when it is measured as well as the best measurement so far."""
        return math.hypot(min(m.noise for m in self._all), self._hidden, self._anchor()[1])

    def add(
        self, key: Hashable, predicted_us: float, measured: Use, *, is_cut: bool, anchor: float | None = None
    ) -> None:
        """Take in a measurement.

        Args:
            key: tells the choice from others.
            predicted_us: what it is predicted to take.
            measured: what it took; its noise is that of its time over the anchor's.
            is_cut: whether anything was removed.
            anchor: share of the budget that the anchor took in the same measurement; None where there is none, in all.
        """
        if anchor is not None:
            self._anchors.append(math.log(anchor))
        factor = math.log(measured.share / (anchor or 1.0) / predicted_us)
        self._all.append(_Measured(key, is_cut, math.log(predicted_us), factor, max(measured.noise, LEAST_NOISE)))
        self._hidden = max(HIDDEN, key=self._log_likelihood)

    def expected(self, predicted_us: float, key: Hashable = None, *, is_cut: bool) -> Use:
        """What a choice takes by all measurements, its own among them where the key is known.

        Raises:
            ValueError: nothing was measured yet.
        """
        if not self._all:
            raise ValueError("no choice was measured yet")
        new = _Measured(key, is_cut, math.log(predicted_us), 0.0, 0.0)
        factors = np.array([m.log_factor for m in self._all])
        known = self._covariance(self._hidden)
        between = _kernel(self._all, [new])[:, 0]
        weights = np.linalg.solve(known, between)
        # Their average is the prior mean: far from all measurements it is the best guess there is.
        factor = factors.mean() + weights @ (factors - factors.mean())
        variance = _kernel([new], [new])[0, 0] - weights @ between
        anchor, scatter = self._anchor()
        return Use(predicted_us * math.exp(factor + anchor), math.sqrt(max(variance, 0.0) + scatter**2))

    def _covariance(self, hidden: float) -> NDArray[np.float64]:
        """Of the factors as they were measured, with so much noise on top."""
        noises = [m.noise if m.noise == LEAST_NOISE else math.hypot(m.noise, hidden) for m in self._all]
        return np.asarray(_kernel(self._all, self._all) + np.diag(np.square(noises)))

    def _log_likelihood(self, hidden: float) -> float:
        """How likely the measurements are with so much noise on top, but for a constant."""
        known = self._covariance(hidden)
        factors = np.array([m.log_factor for m in self._all])
        off = factors - factors.mean()
        return float(-(off @ np.linalg.solve(known, off) + np.linalg.slogdet(known)[1]) / 2)

    def _anchor(self) -> tuple[float, float]:
        """Logarithm of the share of the budget that the anchor takes, and how sure that is."""
        if not self._anchors:
            return 0.0, 0.0
        logs, count = np.array(self._anchors), len(self._anchors)
        variance = (ANCHOR**2 + np.square(logs - logs.mean()).sum()) / count
        return float(logs.mean()), math.sqrt(variance / count)

    def predicted_us(self, share: float, *, is_cut: bool) -> float:
        """The predicted time of choices that are expected to take this share of the budget."""
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
    """Covariance of the factors of two lists of choices, shape (len(a), len(b))."""
    return np.array([[_covariance(one, other) for other in b] for one in a])


def _covariance(a: _Measured, b: _Measured) -> float:
    drift = DRIFT**2 * math.exp(-abs(a.log_us - b.log_us) / REACH)
    return LEVEL**2 + KIND**2 * (a.is_cut == b.is_cut) + drift + OWN**2 * (a.key == b.key)
