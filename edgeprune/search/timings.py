"""What a network takes, measured beside the original, and what is concluded from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeprune.search.problem import Candidate, Problem
from edgeprune.timing import CONFIDENCE, sigmas


@dataclass(frozen=True)
class Timing:
    """What a network takes, and the original in the same measurement.

    Attributes:
        baseline_us: microseconds of the original.
        measured_us: of the network.
        noise: standard deviation of the logarithm of the network's time, over the anchor's where there is one.
        anchor_us: of an anchor, if there is one: a network that every measurement is beside, and that whatever else
            the machine does slows down more alike than it does the original.
    """

    baseline_us: float
    measured_us: float
    noise: float = 0.0
    anchor_us: float | None = None

    @property
    def share(self) -> float:
        """Of the original's time, which does not follow what else the machine does."""
        return self.measured_us / self.baseline_us

    def at(self, baseline_us: float) -> Timing:
        """The same on a machine on which the original takes so long."""
        pace = baseline_us / self.baseline_us
        anchor_us = None if self.anchor_us is None else pace * self.anchor_us
        return Timing(baseline_us, pace * self.measured_us, self.noise, anchor_us)


@dataclass(frozen=True, eq=False)
class StartingPoint:
    """A choice that was timed before, for a loop to begin with."""

    candidate: Candidate
    timing: Timing

    def scaled(self, by: float) -> StartingPoint:
        """What to begin with where choices near the budget are known to have this many times that factor."""
        return replace(self, candidate=replace(self.candidate, latency_us=self.candidate.latency_us / by))


@dataclass(frozen=True, eq=False)
class FeasibleCandidate:
    """A choice whose measured time is within the budget.

    Attributes:
        candidate: what was chosen; its ``latency_us`` is what was predicted *before* it was measured.
        timing: what it took, by all measurements of it and of others near it.
        problem: the problem with its latency model such that it predicts what the choice took.
    """

    candidate: Candidate
    timing: Timing
    problem: Problem

    @property
    def measured_us(self) -> float:
        """What it took."""
        return self.timing.measured_us

    def slowdown(self, starting_point: StartingPoint, problem: Problem) -> float:
        """How many times as much of its predicted time the choice took as the one that the loop began with.

        Args:
            starting_point: what the loop began with.
            problem: with the latency model that both are predicted by.
        """
        shares = [
            timing.share / problem.latency.total_us(candidate.widths, candidate.formats)
            for candidate, timing in ((self.candidate, self.timing), (starting_point.candidate, starting_point.timing))
        ]
        return shares[0] / shares[1]


def noise(low: float, high: float) -> float:
    """Standard deviation of the logarithm of what has this confidence interval."""
    return math.log(high / low) / (2 * sigmas(CONFIDENCE))
