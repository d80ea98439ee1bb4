"""The latency of a network, measured beside the original, and conclusions from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeprune.search.problem import Candidate, Problem
from edgeprune.timing import CONFIDENCE, sigmas


@dataclass(frozen=True)
class Timing:
    """The latency of a network, and of the original in the same measurement.

    Attributes:
        baseline_us: of the original, microseconds.
        measured_us: of the network, microseconds.
        noise: standard deviation of the logarithm of the network's latency, over the anchor's if there is one.
        anchor_us: of an anchor, if there is one, microseconds. An anchor is a network that is part of all measurements.
            Other load on the machine slows it down by nearly the same factor as the network, unlike the original.
    """

    baseline_us: float
    measured_us: float
    noise: float = 0.0
    anchor_us: float | None = None

    @property
    def share(self) -> float:
        """Latency over that of the original; it depends less on the speed of the machine than the latency does."""
        return self.measured_us / self.baseline_us

    def at(self, baseline_us: float) -> Timing:
        """The same timing, scaled to a machine where the original has this latency."""
        pace = baseline_us / self.baseline_us
        anchor_us = None if self.anchor_us is None else pace * self.anchor_us
        return Timing(baseline_us, pace * self.measured_us, self.noise, anchor_us)


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A candidate that was timed before; a loop begins with it."""

    candidate: Candidate
    timing: Timing

    def scaled(self, by: float) -> StartingPoint:
        """The starting point for a model that underestimates candidates near the budget by this additional factor."""
        return replace(self, candidate=replace(self.candidate, latency_us=self.candidate.latency_us / by))


@dataclass(frozen=True, eq=False)
class FeasibleCandidate:
    """A candidate whose measured latency is within the budget.

    Attributes:
        candidate: its ``latency_us`` is the prediction *before* it was measured.
        timing: its latency, by all measurements of it and of others near it.
        problem: the problem with a latency model that is corrected to predict the measured latency.
    """

    candidate: Candidate
    timing: Timing
    problem: Problem

    @property
    def measured_us(self) -> float:
        """Its measured latency, microseconds."""
        return self.timing.measured_us

    def slowdown(self, starting_point: StartingPoint, problem: Problem) -> float:
        """Measured over predicted latency of the candidate, divided by the same ratio of the starting point.

        Args:
            starting_point: of the loop.
            problem: with the latency model that predicts both.
        """
        shares = [
            timing.share / problem.latency.total_us(candidate.widths, candidate.formats)
            for candidate, timing in ((self.candidate, self.timing), (starting_point.candidate, starting_point.timing))
        ]
        return shares[0] / shares[1]


def noise(low: float, high: float) -> float:
    """Standard deviation of the logarithm of a quantity with this confidence interval."""
    return math.log(high / low) / (2 * sigmas(CONFIDENCE))
