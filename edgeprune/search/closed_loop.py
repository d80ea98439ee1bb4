"""Closing the loop: search, measure, correct the latency model, search again.

What a device does is what counts; a latency model only proposes. Timing needs neither refitted weights nor exact
ranges, so the loop runs on networks of the chosen widths and formats before anything expensive is done for them. They
are timed beside the same other networks as the result will be, so that the caches are as they will be then.

Measurements have noise, and on a shared machine much of it. None of them is the truth, so none replaces another:
`edgeprune.search.budget_use` weighs them all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, replace

from edgeprune.errors import BudgetError
from edgeprune.search.budget_use import BudgetUse, Use
from edgeprune.search.problem import Candidate, Problem
from edgeprune.search.solver import Searcher
from edgeprune.search.timings import FeasibleCandidate, StartingPoint, Timing

ROUNDS = 5
MARGIN = 0.03
"""Share of the budget kept back in a search, so that the result still meets it when it is measured again; half as much
again every round."""
SURE_MARGIN = 0.015
"""Share of the budget that a choice has to leave, where longer measurements decide."""
SETTLED = 0.025
"""Noise of what is known of a choice, as a standard deviation of the logarithm, that a longer measurement is not for:
the final one is about as uncertain on such a machine."""
APPROACHES = 2
NEAR = 0.1
"""How far off, as a share, a choice may be predicted whose factors are good enough for others."""
CAUTION = 0.5
"""Standard deviations of what is known of a choice that are kept back as well."""
CLOSE = 0.04
"""A choice that leaves no more than this share of the budget unused is good enough, and what is uncertain of it more;
half as much again every round: where measurements do not settle, more of them bring nothing closer."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """A choice that was measured.

    Attributes:
        candidate: with what it is predicted to take, uncorrected.
        expected_us: what it was expected to take before it was measured, corrected.
        surely: whether it was measured for longer.
    """

    candidate: Candidate
    expected_us: float
    surely: bool


class ClosedLoop:
    """Finds choices that measure within a budget; every measurement serves all that is looked for afterwards.

    Args:
        problem: with a latency model as good as there is.
        budget_of: the budget, given what the original takes in the same measurement, microseconds.
        timing: builds a network of these widths and formats and times it.
        sure: a longer measurement, which a choice that is good enough by the short one has to pass as well.
        starting_point: what corrects the model at first; the fastest uncut choice, which is then measured, by default.
    """

    def __init__(
        self,
        problem: Problem,
        budget_of: Callable[[float], float],
        timing: Callable[[Candidate], Timing],
        sure: Callable[[Candidate], Timing] | None = None,
        starting_point: StartingPoint | None = None,
    ):
        self.problem, self.searcher = problem, Searcher(problem)
        self._budget_of, self._timing, self._sure = budget_of, timing, sure
        self._start(starting_point)

    def _start(self, at: StartingPoint | None) -> None:
        """Know nothing but what the starting point took."""
        self._use, self._seen, self._baseline_us = BudgetUse(), dict[Hashable, _Seen](), 0.0
        if at is not None:
            self._learn(at.candidate, at.candidate.latency_us, at.timing)

    def starting_from(self, starting_point: StartingPoint) -> ClosedLoop:
        """A loop of the same problem that begins elsewhere."""
        other = copy(self)
        other._start(starting_point)
        return other

    def weighing(self, problem: Problem) -> ClosedLoop:
        """A loop of the same choices and times with other losses, which has learned what this one has."""
        other = copy(self)
        other.problem, other.searcher, other._seen = problem, self.searcher.weighing(problem), {}
        return other

    def approach(self) -> tuple[Candidate, float]:
        """Correct the latency model near the budget, by one or two measurements.

        Returns:
            The choice of least loss, and the predicted time, uncorrected, that this one and others may have.

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
        """Find the choice of least loss that *measures* within the budget, with little of it unused.

        Args:
            first: the choice that is looked at first; good enough if it fits and leaves little unused.

        Raises:
            BudgetError: if none was found; the text says what the fastest one takes.
        """
        candidate = None if first is None else self._as_predicted(first)
        if candidate is None:
            self._begin()
        halved = False
        for done in range(ROUNDS):
            candidate = candidate or self._found(self._bracket(), halved=halved, done=done)
            if candidate is None:
                candidate = self.searcher.fastest()
                if self._best() is not None or candidate.key in self._seen:
                    break
                self._measure(candidate)
                if not self._fits(candidate):
                    break
            elif done and self._is_settled(candidate):
                if halved:
                    break  # there is nothing nearer
                halved = True
            else:
                self._look_at(candidate)
                if self._leaves_little(candidate, CLOSE * (1 + done / 2)):
                    break
            candidate = None
        while (best := self._best()) is not None and not self._is_settled(best):
            self._measure(best)
        best = best or self._fastest_seen()
        if best is None:
            raise BudgetError(self._shortfall())
        return self._feasible(best)

    def _fastest_seen(self) -> Candidate | None:
        """The fastest choice of all that was measured, or of all there are, if it is expected to be fast enough."""
        fastest = min((s.candidate for s in self._seen.values()), key=lambda c: self._expected(c).share)
        if self._expected(fastest).share > 1:
            fastest = self.searcher.fastest()
            if fastest.key not in self._seen:
                self._measure(fastest)
        return fastest if self._expected(fastest).share <= 1 else None

    def adjusted(self, feasible: FeasibleCandidate, by: float) -> FeasibleCandidate:
        """The choice of least loss that takes so many times as long as one that was built, by what that took.

        Raises:
            BudgetError: nothing is predicted to be as fast as that.
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

    def taken(self, candidate: Candidate) -> Timing:
        """What a choice takes by all measurements."""
        use = self._expected(self._as_predicted(candidate))
        return Timing(self._baseline_us, use.share * self._budget_of(self._baseline_us), use.noise)

    def _limit_us(self, done: int = 0) -> float:
        """What a choice may be predicted to take, uncorrected, after so many rounds."""
        kept_back = MARGIN * (1 + done / 2) + CAUTION * self._use.least_noise
        return self._use.predicted_us(1 - kept_back, is_cut=True)

    def _begin(self) -> None:
        """Measure something, where nothing was."""
        if self._use.is_empty:
            self._measure(self.searcher.fastest_unpruned())

    def _found(
        self, bracket: tuple[float, float] | None = None, *, halved: bool = False, done: int = 0
    ) -> Candidate | None:
        """What the search leads to for the budget; inside a bracket of predicted times, if there is one.

        Where no model describes both sides, what is wanted is predicted to take something between them.
        """
        limit_us = self._limit_us(done)
        if bracket is not None and (halved or not bracket[0] < limit_us < bracket[1]):
            limit_us = sum(bracket) / 2
        try:
            return self.searcher.search(limit_us)
        except BudgetError:
            return None

    def _bracket(self) -> tuple[float, float] | None:
        """Predicted times of the slowest choice that fits and of the fastest that does not, if they are in order."""
        us = {True: [0.0], False: [float("inf")]}
        for seen in self._seen.values():
            us[self._fits(seen.candidate)].append(seen.candidate.latency_us)
        low, high = max(us[True]), min(us[False])
        return (low, high) if 0 < low < high < float("inf") else None

    def _look_at(self, candidate: Candidate) -> None:
        """Measure a choice, for longer where that decides whether it is taken."""
        if not self._is_settled(candidate):
            self._measure(candidate)
        if self._leaves_little(candidate, CLOSE) and not self._is_settled(candidate):
            self._measure(candidate)

    def _measure(self, candidate: Candidate) -> None:
        """Time a choice; for longer if it was timed before."""
        key = candidate.key
        known = self._seen.get(key)
        timed = (self._timing if known is None or self._sure is None else self._sure)(candidate)
        expected_us = known.expected_us if known else self._expected_us(candidate, timed.baseline_us)
        self._seen[key] = _Seen(candidate, expected_us, known is not None)
        self._learn(candidate, candidate.latency_us, timed)

    def _learn(self, candidate: Candidate, predicted_us: float, timed: Timing) -> None:
        self._baseline_us = timed.baseline_us
        budget_us = self._budget_of(timed.baseline_us)
        anchor = None if timed.anchor_us is None else timed.anchor_us / budget_us
        use, is_cut = Use(timed.measured_us / budget_us, timed.noise), self._is_cut(candidate)
        self._use.add(candidate.key, predicted_us, use, is_cut=is_cut, anchor=anchor)

    def _is_settled(self, candidate: Candidate) -> bool:
        """Whether another measurement of a choice would tell little that is new."""
        seen = self._seen.get(candidate.key)
        return seen is not None and (self._sure is None or seen.surely or self._expected(candidate).noise <= SETTLED)

    def _expected(self, candidate: Candidate) -> Use:
        return self._use.expected(candidate.latency_us, candidate.key, is_cut=self._is_cut(candidate))

    def _is_cut(self, candidate: Candidate) -> bool:
        return bool((candidate.widths < self.problem.latency.sizes).any())

    def _expected_us(self, candidate: Candidate, baseline_us: float) -> float:
        if self._use.is_empty:
            return candidate.latency_us
        return self._expected(candidate).share * self._budget_of(baseline_us)

    def _fits(self, candidate: Candidate) -> bool:
        use, seen = self._expected(candidate), self._seen.get(candidate.key)
        if seen is not None and seen.surely:
            return use.share <= 1 - SURE_MARGIN
        kept_back = 0.0 if self._sure is None else SURE_MARGIN
        return use.share <= 1 - kept_back - CAUTION * use.noise

    def _leaves_little(self, candidate: Candidate, close: float) -> bool:
        use = self._expected(candidate)
        return self._fits(candidate) and use.share >= 1 - close - (1 + CAUTION) * use.noise

    def _best(self) -> Candidate | None:
        """Of all that was measured and fits, what loses least."""
        fit = [seen.candidate for seen in self._seen.values() if self._fits(seen.candidate)]
        return min(fit, key=lambda candidate: candidate.loss, default=None)

    def _as_predicted(self, candidate: Candidate) -> Candidate:
        """A choice with what the problem's model, uncorrected, predicts of it."""
        return replace(candidate, latency_us=self.problem.latency.total_us(candidate.widths, candidate.formats))

    def _feasible(self, candidate: Candidate) -> FeasibleCandidate:
        timing = self.taken(candidate)
        latency = self.problem.latency.corrected(timing.measured_us / candidate.latency_us)
        expected = replace(candidate, latency_us=self._seen[candidate.key].expected_us)
        return FeasibleCandidate(expected, timing, replace(self.problem, latency=latency))

    def _shortfall(self) -> str:
        budget_us = self._budget_of(self._baseline_us)
        fastest_us = min(self._expected(seen.candidate).share for seen in self._seen.values()) * budget_us
        return (
            f"the budget of {budget_us / 1e3:.3f} ms can't be met: the fastest network that was measured "
            f"takes {fastest_us / 1e3:.3f} ms, {self._baseline_us / fastest_us:.2f}x as fast as the original "
            f"({self._baseline_us / 1e3:.3f} ms)"
        )
