"""Closing the loop: search, measure, correct the latency model, search again.

What a device does is what counts; a latency model only proposes. Timing needs neither refitted weights nor exact
ranges, so the loop runs on networks of the chosen widths and formats before anything expensive is done for them. They
are timed beside the same other networks as the result will be, so that the caches are as they will be then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgeprune.errors import BudgetError
from edgeprune.search import Choice, Problem, Searcher

ROUNDS = 5
MARGIN = 0.03
"""Share of the budget kept back in a search, so that the result still meets it when it is measured again."""
SURE_MARGIN = 0.015
"""Share of the budget that a longer measurement has to leave."""
APPROACHES = 2
NEAR = 0.1
"""Of two measured-to-predicted ratios: near enough for a model that is corrected by the second."""
CLOSE = 0.04
"""A choice that leaves no more than this share of the budget unused is good enough; half as much more every round:
where measurements do not settle, more of them bring nothing closer."""


@dataclass(frozen=True)
class Timing:
    """Microseconds of a network, and of the original in the same measurement."""

    baseline_us: float
    measured_us: float

    @property
    def share(self) -> float:
        """Of the original's time, which does not follow what else the machine does."""
        return self.measured_us / self.baseline_us


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
        timing: what it took.
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


def meet_budget(
    problem: Problem,
    budget_of: Callable[[float], float | None],
    timing: Callable[[Choice], Timing],
    tightened: float = 1.0,
    first: Choice | None = None,
    sure: Callable[[Choice], Timing] | None = None,
    begun: Begun | None = None,
) -> Met:
    """Find the choice of least loss that *measures* within the budget, with little of it unused.

    Args:
        problem: with a latency model as good as there is.
        budget_of: the budget, given what the original takes in the same measurement, microseconds.
        timing: builds a network of these widths and formats and times it.
        tightened: factor on the budget, below 1 where a first result has missed it.
        first: the choice that is measured first; good enough if it fits and leaves little unused.
        sure: a longer measurement, which a choice that is good enough by the short one has to pass as well: what is
            built from it costs more than measuring it well.
        begun: what corrects the model at first, where no first choice is given; the fastest uncut one by default.

    Raises:
        BudgetError: if none was found; the text says what the fastest one takes.
    """
    searcher = Searcher(problem)
    best: Met | None = None
    loose: Met | None = None  # fits, as far as a short measurement tells, and leaves much unused
    fastest_us = float("inf")
    seen: dict[tuple[object, ...], Timing] = {}

    def measure(choice: Choice, how: Callable[[Choice], Timing] = timing) -> Timing:
        key = _key(choice)
        if how is sure or key not in seen:
            seen[key] = how(choice)
        return seen[key]

    def allowed_us(timed: Timing, how: Callable[[Choice], Timing] = timing) -> float:
        kept_back = SURE_MARGIN if how is sure else 0.0
        return (budget_of(timed.baseline_us) or float("inf")) * tightened * (1 - kept_back)

    def judged(choice: Choice, close: float) -> tuple[Timing, bool, bool]:
        """What a choice takes, whether that fits, and whether it leaves little unused; surely where it decides."""
        for how in (timing,) if sure is None else (timing, sure):
            timed = measure(choice, how)
            limit_us = allowed_us(timed, how)
            fits, good = timed.measured_us <= limit_us, timed.measured_us >= (1 - close) * allowed_us(timed)
            if not (fits and good):
                break
        return timed, fits, fits and good

    rounds = ROUNDS
    if first is not None:
        start = first
        timed, fits, good = judged(first, CLOSE)
        if good:
            best, rounds = Met(first, timed, problem), 0
        elif fits:
            loose = Met(first, timed, problem)
    else:
        start = begun.choice if begun is not None else searcher.fastest_unpruned()
        timed = begun.timing if begun is not None else measure(start)
    factor = timed.measured_us / start.latency_us
    # The slowest choice that fits and the fastest that does not: (predicted uncorrected, measured).
    fit, miss, halved = (0.0, 0.0), (float("inf"), float("inf")), False
    for done in range(rounds):
        budget_us = allowed_us(timed)
        limit_us = (1 - MARGIN) * budget_us / factor
        bracketed = 0 < fit[0] < miss[0] < float("inf")
        if bracketed and (halved or not fit[0] < limit_us < miss[0]):
            # No one factor describes both sides: what is wanted is predicted to take something between them.
            limit_us, halved = (fit[0] + miss[0]) / 2, True
        try:
            choice = searcher.search(limit_us)
        except BudgetError as error:
            if best is not None or loose is not None:
                break
            choice = searcher.fastest()
            timed = measure(choice)
            if timed.measured_us > budget_us:
                least_us = min(fastest_us, timed.measured_us)
                raise BudgetError(_shortfall(budget_us, least_us, timed.baseline_us)) from error
            factor = timed.measured_us / choice.latency_us
            best = Met(replace(choice, latency_us=timed.measured_us), timed, problem)
            continue
        expected_us = factor * choice.latency_us
        if bracketed and halved:
            expected_us = float(np.interp(choice.latency_us, (fit[0], miss[0]), (fit[1], miss[1])))
        predicted = replace(choice, latency_us=expected_us)
        known = _key(choice) in seen
        timed, fits, good = judged(choice, CLOSE * (1 + done / 2))
        factor, budget_us = timed.measured_us / choice.latency_us, allowed_us(timed)
        fastest_us = min(fastest_us, timed.measured_us)
        if good and (best is None or choice.loss < best.choice.loss):
            best = Met(predicted, timed, problem)
        elif fits and (loose is None or choice.loss < loose.choice.loss):
            loose = Met(predicted, timed, problem)
        if fits:
            fit = max(fit, (choice.latency_us, timed.measured_us))
        else:
            miss = min(miss, (choice.latency_us, timed.measured_us))
        if known and bracketed and not halved:
            halved = True
        elif known or good:
            break
    if best is None and loose is not None:
        surely = timing if sure is None else sure
        timed = measure(loose.choice, surely)
        budget_us = allowed_us(timed, surely)
        best = replace(loose, timing=timed) if timed.measured_us <= budget_us else None
    if best is None:
        raise BudgetError(_shortfall(budget_us, fastest_us, timed.baseline_us))
    # The model that is handed on predicts what the chosen network took.
    right = best.measured_us / problem.latency.total_us(best.choice.widths, best.choice.formats)
    return replace(best, problem=replace(problem, latency=problem.latency.corrected(right)))


def approach(
    problem: Problem,
    budget_of: Callable[[float], float | None],
    timing: Callable[[Choice], Timing],
    begun: Begun | None = None,
) -> tuple[Problem, Choice, float]:
    """Correct the latency model near the budget, by one or two measurements.

    Args:
        problem: with a latency model as good as there is.
        budget_of: the budget, given what the original takes in the same measurement, microseconds.
        timing: builds a network of these widths and formats and times it.
        begun: what corrects the model at first; the fastest uncut choice, which is then measured as well, by default.

    Returns:
        The problem with its latency model corrected there, the choice of least loss by it, and the time that this and
        others may be predicted to take.

    Raises:
        BudgetError: as `meet_budget`.
    """
    searcher = Searcher(problem)
    choice = begun.choice if begun is not None else searcher.fastest_unpruned()
    timed = begun.timing if begun is not None else timing(choice)
    for _ in range(APPROACHES):
        budget_us, factor = budget_of(timed.baseline_us) or float("inf"), timed.measured_us / choice.latency_us
        try:
            choice = searcher.search((1 - MARGIN) * budget_us / factor)
        except BudgetError:
            choice = searcher.fastest()
        timed = timing(choice)
        budget_us = budget_of(timed.baseline_us) or float("inf")
        if abs(timed.measured_us / choice.latency_us / factor - 1) <= NEAR:
            break
    factor = timed.measured_us / choice.latency_us
    try:
        choice = searcher.search((1 - MARGIN) * budget_us / factor)
    except BudgetError as error:
        if timed.measured_us > budget_us:
            raise BudgetError(_shortfall(budget_us, timed.measured_us, timed.baseline_us)) from error
    choice = replace(choice, latency_us=factor * choice.latency_us)
    corrected = replace(problem, latency=problem.latency.corrected(factor))
    return corrected, choice, max(choice.latency_us, (1 - MARGIN) * budget_us)


def _key(choice: Choice) -> tuple[object, ...]:
    return (choice.widths.tobytes(), choice.formats)


def _shortfall(budget_us: float, fastest_us: float, baseline_us: float) -> str:
    return (
        f"the budget of {budget_us / 1e3:.3f} ms can't be met: the fastest network that was measured takes "
        f"{fastest_us / 1e3:.3f} ms, {baseline_us / fastest_us:.2f}x as fast as the original "
        f"({baseline_us / 1e3:.3f} ms)"
    )
