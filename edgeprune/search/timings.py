"""What a network takes, measured beside the original, and what is concluded from it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from edgeprune.search.problem import Choice, Problem
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
class Begun:
    """A choice that was timed before, for a loop to begin with."""

    choice: Choice
    timing: Timing

    def bent(self, by: float) -> Begun:
        """What to begin with where choices near the budget are known to have this many times that factor."""
        return replace(self, choice=replace(self.choice, latency_us=self.choice.latency_us / by))


@dataclass(frozen=True, eq=False)
class Met:
    """A choice whose measured time is within the budget.

    Attributes:
        choice: what was chosen; its ``latency_us`` is what was predicted *before* it was measured.
        timing: what it took, by all measurements of it and of others near it.
        problem: the problem with its latency model such that it predicts what the choice took.
    """

    choice: Choice
    timing: Timing
    problem: Problem

    @property
    def measured_us(self) -> float:
        """What it took."""
        return self.timing.measured_us

    def bend(self, begun: Begun, problem: Problem) -> float:
        """How many times as much of its predicted time the choice took as the one that the loop began with.

        Args:
            begun: what the loop began with.
            problem: with the latency model that both are predicted by.
        """
        shares = [
            timing.share / problem.latency.total_us(choice.widths, choice.formats)
            for choice, timing in ((self.choice, self.timing), (begun.choice, begun.timing))
        ]
        return shares[0] / shares[1]


def noise(low: float, high: float) -> float:
    """Standard deviation of the logarithm of what has this confidence interval."""
    return math.log(high / low) / (2 * sigmas(CONFIDENCE))
