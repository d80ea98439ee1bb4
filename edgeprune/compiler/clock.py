"""What choices take: for a moment while searching, or for good, which is what a result is judged and reported by."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

from edgeprune.compiler.compiled import Compiled
from edgeprune.compiler.workbench import Workbench, concluded
from edgeprune.report import Search
from edgeprune.search import Candidate, FeasibleCandidate, Goal, Timing


@dataclass(frozen=True, eq=False)
class Clock:
    """Times choices by stand-ins, beside the original and the unpruned variants.

    Attributes:
        bench: where they are timed.
        goal: what they are to meet.
        baseline_us: what the original took at first. Where a multiple of its speed is wanted, a choice takes what it
            would if the machine still were as fast as then.
    """

    bench: Workbench
    goal: Goal
    baseline_us: float
    _kept: dict[Hashable, Compiled] = field(default_factory=dict, repr=False)

    def shortly(self, candidate: Candidate) -> Timing:
        """By a measurement of a few seconds."""
        return self._paced(self.bench.timing(candidate, relative=self._is_relative))

    def well(self, candidate: Candidate) -> Timing:
        """By one for good, which is not made again when the choice is taken."""
        found = self._kept[candidate.key] = self._measured(candidate)
        return self._paced(concluded(found.measured, relative=self._is_relative))

    def for_good(self, feasible: FeasibleCandidate, how: Search | None) -> Compiled:
        """What a choice takes in the end; the model is the stand-in."""
        found = self._kept.pop(feasible.candidate.key, None) or self._measured(feasible.candidate)
        return replace(found, candidate=feasible.candidate, latency=feasible.problem.latency, search=how)

    def _measured(self, candidate: Candidate) -> Compiled:
        model = self.bench.stand_in(candidate)
        return self.bench.result(candidate, self.bench.problem.latency, model=model, goal=self.goal)

    @property
    def _is_relative(self) -> bool:
        return self.goal.speedup is not None

    def _paced(self, timed: Timing) -> Timing:
        return timed.at(self.baseline_us) if self._is_relative else timed
