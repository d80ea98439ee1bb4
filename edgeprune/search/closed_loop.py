"""The closed loop: search, measure, correct the latency model, search again.

The device decides; a latency model only proposes candidates. Timing needs neither refitted weights nor exact ranges.
So the loop times proxy models with the widths and formats of a candidate, before any expensive step. They are timed
beside the same other networks as in the final measurement, so that the caches are in the same state.

Measurements have noise, and much of it on a shared machine. No measurement replaces another one:
`edgeprune.search.latency_correction` weights all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, replace

from edgeprune.errors import BudgetError
from edgeprune.search.latency_correction import Estimate, LatencyCorrection
from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.solver import Searcher
from edgeprune.search.timings import FeasibleCandidate, StartingPoint, Timing

ROUNDS = 5
MARGIN = 0.03
"""Share of the budget that a search keeps in reserve, so that the result still meets it in the next measurement; half
as much again every round."""
LONG_MARGIN = 0.015
"""Share of the budget that a candidate must leave unused, where longer measurements decide."""
SETTLED = 0.025
"""A candidate with less uncertainty (standard deviation of the logarithm) is not measured for longer.

The final measurement is about as uncertain on such a machine."""
APPROACHES = 2
NEAR = 0.1
"""Largest relative error of a prediction that is good enough to predict other candidates."""
CAUTION = 0.5
"""The reserve also has this many standard deviations of a candidate's latency."""
CLOSE = 0.04
"""A candidate is good enough if it leaves at most this share of the budget, and its uncertainty, unused; half as much
again every round, because more measurements do not help where they stay noisy."""


@dataclass(frozen=True, eq=False)
class _Measured:
    """A candidate that was measured.

    Attributes:
        candidate: with its predicted latency, uncorrected.
        expected_us: its corrected prediction before it was measured, microseconds.
        was_long: whether there was a longer measurement.
    """

    candidate: Candidate
    expected_us: float
    was_long: bool


class ClosedLoop:
    """Finds candidates that meet a budget when measured; later searches use every earlier measurement.

    Args:
        problem: with the best latency model that is available.
        budget_of: the budget, given the latency of the original in the same measurement, microseconds.
        timing: builds a network of these widths and formats and times it.
        long_timing: a longer measurement, which a candidate that is good enough by the short one has to pass too.
        starting_point: the first correction of the model; by default the fastest uncut candidate, which is measured.
    """

    def __init__(
        self,
        problem: Problem,
        budget_of: Callable[[float], float],
        timing: Callable[[Candidate], Timing],
        long_timing: Callable[[Candidate], Timing] | None = None,
        starting_point: StartingPoint | None = None,
    ):
        self.problem, self.searcher = problem, Searcher(problem)
        self._budget_of, self._timing, self._long_timing = budget_of, timing, long_timing
        self._start(starting_point)

    def _start(self, at: StartingPoint | None) -> None:
        """Forget all measurements but that of the starting point."""
        self._correction, self._measured, self._baseline_us = LatencyCorrection(), dict[Hashable, _Measured](), 0.0
        if at is not None:
            self._learn(at.candidate, at.candidate.latency_us, at.timing)

    def starting_from(self, starting_point: StartingPoint) -> ClosedLoop:
        """A loop of the same problem with another starting point."""
        other = copy(self)
        other._start(starting_point)
        return other

    def reweighted(self, problem: Problem) -> ClosedLoop:
        """A loop with the same candidates and latencies and other losses; it keeps the correction of this one."""
        other = copy(self)
        other.problem, other.searcher, other._measured = problem, self.searcher.reweighted(problem), {}
        return other

    def approach(self) -> tuple[Candidate, float]:
        """Correct the latency model near the budget, by one or two measurements.

        Returns:
            The candidate of least loss, and the uncorrected prediction that it and others may have, microseconds.

        Raises:
            BudgetError: as `meet`.
        """
        self._begin()
        for _ in range(APPROACHES):
            candidate = self._found() or self.searcher.fastest()
            before = self._expected(candidate).share
            if not self._is_settled(candidate):
                self._measure(candidate)
            if abs(self._expected(candidate).share / before - 1) <= NEAR:
                break
        found = self._found()
        if found is None and self._expected(candidate).share > 1:
            raise BudgetError(self._shortfall())
        candidate = found or candidate
        return candidate, max(candidate.latency_us, self._limit_us())

    def meet(self, first: Candidate | None = None) -> FeasibleCandidate:
        """Find the candidate of least loss that meets the budget when *measured*, with little of it unused.

        Args:
            first: the candidate to measure first; it is good enough if it fits and leaves little unused.

        Raises:
            BudgetError: none was found; the text names the latency of the fastest one.
        """
        candidate = None if first is None else self._as_predicted(first)
        if candidate is None:
            self._begin()
        halved = False
        for done in range(ROUNDS):
            candidate = candidate or self._found(self._bracket(), halved=halved, done=done)
            if candidate is None:
                candidate = self.searcher.fastest()
                if self._best() is not None or candidate.key in self._measured:
                    break
                self._measure(candidate)
                if not self._fits(candidate):
                    break
            elif done and self._is_settled(candidate):
                if halved:
                    break  # there is nothing nearer
                halved = True
            else:
                self._evaluate(candidate)
                if self._leaves_little(candidate, CLOSE * (1 + done / 2)):
                    break
            candidate = None
        while (best := self._best()) is not None and not self._is_settled(best):
            self._measure(best)
        best = best or self._fastest_measured()
        if best is None:
            raise BudgetError(self._shortfall())
        return self._feasible(best)

    def _fastest_measured(self) -> Candidate | None:
        """The fastest candidate that was measured, or else the fastest of all, if it is expected to be fast enough."""
        fastest = min((m.candidate for m in self._measured.values()), key=lambda c: self._expected(c).share)
        if self._expected(fastest).share > 1:
            fastest = self.searcher.fastest()
            if fastest.key not in self._measured:
                self._measure(fastest)
        return fastest if self._expected(fastest).share <= 1 else None

    def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
        """The candidate of least loss with ``by`` times the latency of one that was built, by its measured latency.

        Raises:
            BudgetError: nothing is predicted to be that fast.
        """
        known = self._as_predicted(feasible.candidate)
        try:
            found = self.searcher.search(by * known.latency_us)
        except BudgetError as error:
            raise BudgetError(self._shortfall()) from error
        factor = feasible.measured_us / known.latency_us
        timing = Timing(feasible.timing.baseline_us, factor * found.latency_us)
        latency = self.problem.latency.corrected(factor)
        return FeasibleCandidate(
            replace(found, latency_us=timing.measured_us), timing, replace(self.problem, latency=latency)
        )

    def expected_timing(self, candidate: Candidate) -> Timing:
        """The latency of a candidate by all measurements."""
        found = self._expected(self._as_predicted(candidate))
        return Timing(self._baseline_us, found.share * self._budget_of(self._baseline_us), found.noise)

    def _limit_us(self, done: int = 0) -> float:
        """The uncorrected prediction that a candidate may have after this many rounds, microseconds."""
        reserve = MARGIN * (1 + done / 2) + CAUTION * self._correction.least_noise
        return self._correction.predicted_us(1 - reserve, is_cut=True)

    def _begin(self) -> None:
        """Measure the fastest uncut candidate if nothing was measured yet."""
        if self._correction.is_empty:
            self._measure(self.searcher.fastest_unpruned())

    def _found(
        self, bracket: tuple[float, float] | None = None, *, halved: bool = False, done: int = 0
    ) -> Candidate | None:
        """The result of the search for the budget, inside a bracket of predicted latencies if there is one.

        If no correction describes both ends of the bracket, the search aims at its middle.
        """
        limit_us = self._limit_us(done)
        if bracket is not None and (halved or not bracket[0] < limit_us < bracket[1]):
            limit_us = sum(bracket) / 2
        try:
            return self.searcher.search(limit_us)
        except BudgetError:
            return None

    def _bracket(self) -> tuple[float, float] | None:
        """Predicted latencies of the slowest candidate that fits and of the fastest that does not, if in order."""
        us = {True: [0.0], False: [float("inf")]}
        for measured in self._measured.values():
            us[self._fits(measured.candidate)].append(measured.candidate.latency_us)
        low, high = max(us[True]), min(us[False])
        return (low, high) if 0 < low < high < float("inf") else None

    def _evaluate(self, candidate: Candidate) -> None:
        """Measure a candidate, and measure it for longer if that decides whether it is the result."""
        if not self._is_settled(candidate):
            self._measure(candidate)
        if self._leaves_little(candidate, CLOSE) and not self._is_settled(candidate):
            self._measure(candidate)

    def _measure(self, candidate: Candidate) -> None:
        """Time a candidate; for longer if it was timed before."""
        key = candidate.key
        known = self._measured.get(key)
        timed = (self._timing if known is None or self._long_timing is None else self._long_timing)(candidate)
        expected_us = known.expected_us if known else self._expected_us(candidate, timed.baseline_us)
        self._measured[key] = _Measured(candidate, expected_us, known is not None)
        self._learn(candidate, candidate.latency_us, timed)

    def _learn(self, candidate: Candidate, predicted_us: float, timed: Timing) -> None:
        self._baseline_us = timed.baseline_us
        budget_us = self._budget_of(timed.baseline_us)
        anchor = None if timed.anchor_us is None else timed.anchor_us / budget_us
        measured, is_cut = Estimate(timed.measured_us / budget_us, timed.noise), self._is_cut(candidate)
        self._correction.add(candidate.key, predicted_us, measured, is_cut=is_cut, anchor=anchor)

    def _is_settled(self, candidate: Candidate) -> bool:
        """Whether another measurement of a candidate would tell little more."""
        known = self._measured.get(candidate.key)
        if known is None:
            return False
        return self._long_timing is None or known.was_long or self._expected(candidate).noise <= SETTLED

    def _expected(self, candidate: Candidate) -> Estimate:
        return self._correction.expected(candidate.latency_us, candidate.key, is_cut=self._is_cut(candidate))

    def _is_cut(self, candidate: Candidate) -> bool:
        return candidate.removes(self.problem.latency.sizes)

    def _expected_us(self, candidate: Candidate, baseline_us: float) -> float:
        if self._correction.is_empty:
            return candidate.latency_us
        return self._expected(candidate).share * self._budget_of(baseline_us)

    def _fits(self, candidate: Candidate) -> bool:
        found, known = self._expected(candidate), self._measured.get(candidate.key)
        if known is not None and known.was_long:
            return found.share <= 1 - LONG_MARGIN
        reserve = 0.0 if self._long_timing is None else LONG_MARGIN
        return found.share <= 1 - reserve - CAUTION * found.noise

    def _leaves_little(self, candidate: Candidate, close: float) -> bool:
        found = self._expected(candidate)
        return self._fits(candidate) and found.share >= 1 - close - (1 + CAUTION) * found.noise

    def _best(self) -> Candidate | None:
        """The candidate of least loss among all that were measured and fit."""
        fit = [m.candidate for m in self._measured.values() if self._fits(m.candidate)]
        return min(fit, key=lambda candidate: candidate.loss, default=None)

    def _as_predicted(self, candidate: Candidate) -> Candidate:
        """A candidate with its latency as the problem's uncorrected model predicts it."""
        return replace(candidate, latency_us=self.problem.latency.total_us(candidate.widths, candidate.formats))

    def _feasible(self, candidate: Candidate) -> FeasibleCandidate:
        timing = self.expected_timing(candidate)
        latency = self.problem.latency.corrected(timing.measured_us / candidate.latency_us)
        expected = replace(candidate, latency_us=self._measured[candidate.key].expected_us)
        return FeasibleCandidate(expected, timing, replace(self.problem, latency=latency))

    def _shortfall(self) -> str:
        budget_us = self._budget_of(self._baseline_us)
        fastest_us = min(self._expected(m.candidate).share for m in self._measured.values()) * budget_us
        return (
            f"the budget of {budget_us / 1e3:.3f} ms can't be met: the fastest network that was measured "
            f"runs in {fastest_us / 1e3:.3f} ms, {self._baseline_us / fastest_us:.2f}x as fast as the original "
            f"({self._baseline_us / 1e3:.3f} ms)"
        )
