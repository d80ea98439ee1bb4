"""The pipeline from a goal to a network: search, time, recover and build. It is the same for every target.

Two interfaces hide the differences between targets. A `CompileSession` knows the model. A `Timer` measures candidates
on this CPU or on a device, or predicts them if no device is attached.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from edgeprune.compiler.offers import offers
from edgeprune.compiler.outcome import NEVER_SLOWER, decide, predicted_values
from edgeprune.compiler.refinement import open_search
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed, Timer
from edgeprune.errors import BudgetError
from edgeprune.report import Outcome, Search
from edgeprune.search import (
    Candidate,
    FeasibleCandidate,
    Goal,
    Problem,
    SearchLoop,
    StartingPoint,
    Timing,
    build_within,
    least_latency,
)
from edgeprune.timing import ratio

FULL_TRAININGS = 2
"""Candidates that are trained before one that needs no training is taken."""


@dataclass(frozen=True, eq=False)
class Reached:
    """The result of a compile.

    Attributes:
        model: as it is delivered.
        candidate: its widths and formats, with its predicted latency.
        returned: ``result``, ``original``, or the name of an unpruned variant.
        outcome: which kind of model it is, and why it is returned.
        timed: the latencies of the result and of the models that it was compared with.
        timer: that measured or predicted them.
        baseline_us: predicted latency of the original, microseconds.
    """

    model: ir.Model
    candidate: Candidate
    returned: str
    outcome: Outcome
    timed: Timed
    timer: Timer
    baseline_us: float

    @property
    def latency_ms(self) -> float:
        """Its latency: measured, or predicted."""
        if self.timed.measured is None:
            return self.candidate.latency_us / 1e3
        return self.timed.measured[self.returned].median_ms

    @property
    def speed(self) -> float:
        """How many times as fast as the original it is: measured in one run, or predicted."""
        if self.timed.measured is None:
            return self.baseline_us / self.candidate.latency_us
        return ratio(self.timed.measured[ORIGINAL], self.timed.measured[self.returned]).value


def reach(session: CompileSession, goal: Goal) -> Reached:
    """Find, build and time the best network for a goal.

    Raises:
        BudgetError: the goal can't be met; the text gives the lowest latency that was found, and other budgets.
        BackendError: a device cannot be reached, or does not accept a model.
    """
    timer = session.timer(goal)
    variants = session.variants(goal.drop_limit)
    if goal.has_budget:
        start = _starting_point(session, timer, variants)
        try:
            timed = _uncut_within_budget(session, goal, timer, start) or _within_budget(session, goal, timer, start)
        except BudgetError as error:
            if not timer.measures:
                raise  # the session checked before what can be predicted
            raise BudgetError(
                f"{error}; {offers(session, goal, session.latency, timer.margin, timer=timer)}"
            ) from error
    else:
        timed = _fastest_allowed(session, goal, timer, variants)
    if session.whole is not None:
        timed = _beside_whole(session.whole, session, goal, timed, timer)
    returned, outcome = decide(session, goal, timed, timer.margin)
    if returned == RESULT or session.whole is not None:  # a variant with all tokens is of the other session
        candidate, model = timed.candidate, timed.models.get(RESULT) or _delivered(session, goal, timed.candidate)
    else:
        candidate = timed.as_variant(returned, session.floating)
        model = timed.models.get(returned) or _delivered(session, goal, candidate)
    baseline_us = session.predicted_baseline_us(timed.latency)
    return Reached(model, candidate, returned, outcome, timed, timer, baseline_us)


def _beside_whole(whole: CompileSession, session: CompileSession, goal: Goal, timed: Timed, timer: Timer) -> Timed:
    """The result after tokens left, beside the variants with all tokens; it may be one that cuts nothing else."""
    known = [name for name in timed.variants if timed.measured is None or name in timed.measured]
    best = min(known, key=timed.gain_over, default=RESULT)
    if best != RESULT and session.is_cut(timed.candidate) and timed.gain_over(best) < NEVER_SLOWER:
        candidate = timed.as_variant(best, session.floating)
        models = {**timed.models, RESULT: timed.models.get(best) or session.variant_model(candidate)}
        timed = replace(timed, candidate=candidate, models=models)
    others = whole.variants(goal.drop_limit)
    models = {name: whole.variant_model(v) for name, v in others.items()} if timer.measures else {}
    return timer.beside(timed, others, models)


def _trained_within(session: CompileSession, goal: Goal, problem: Problem, start: Candidate) -> Candidate:
    """The fastest acceptable candidate; where training recovers less than was expected, a milder one."""
    for _ in range(FULL_TRAININGS):
        found = least_latency(problem, start, lambda c: session.is_acceptable(c, goal.drop_limit), session.progress)
        if session.keeps(found, goal.drop_limit):
            return found
    return start


def _delivered(session: CompileSession, goal: Goal, candidate: Candidate) -> ir.Model:
    return session.finish(session.recovered(candidate, goal.limit_of_result))


def _starting_point(session: CompileSession, timer: Timer, variants: dict[str, Candidate]) -> StartingPoint:
    """The fastest unpruned network within the limit of accuracy, and its latency."""
    fastest = min(variants.values(), key=lambda c: c.latency_us)
    with session.progress.step("searching and measuring"):
        return StartingPoint(fastest, timer.timing(fastest))


def _uncut_within_budget(session: CompileSession, goal: Goal, timer: Timer, start: StartingPoint) -> Timed | None:
    """A network that cuts nothing, if it meets the budget; then there is no reason to lose more accuracy."""
    budget_us = goal.needed_us(start.timing.baseline_us)
    if timer.margin * start.timing.measured_us > budget_us:
        return None
    candidate = timer.uncut(session.prices.uncut, start)
    if goal.limits and goal.excess(predicted_values(session, candidate)):
        return None
    timed = timer.final_of_model(FeasibleCandidate(candidate, start.timing, session.prices.uncut))
    return timed if timed.is_met(goal) else None


def _within_budget(session: CompileSession, goal: Goal, timer: Timer, start: StartingPoint) -> Timed:
    """The candidate of least loss that meets the budget in the final measurement, or by the prediction."""
    search = open_search(session, goal, timer, start)
    with session.progress.step("searching and measuring"):
        feasible = search.loop.meet(search.first)
    timed = _confirmed(goal, timer, feasible, search.loop, search.how)
    search.keep(feasible)
    return timed.at_pace_of(feasible.timing)


def _confirmed(goal: Goal, timer: Timer, feasible: FeasibleCandidate, loop: SearchLoop, how: Search | None) -> Timed:
    """The candidate, or one near it, that meets the budget in the final measurement, with the delivered model.

    A proxy model is measured first, so that no model is recovered in vain. If the delivered model has other kernels or
    sizes than the proxy, it is measured too.
    """
    timed = build_within(goal, feasible, loop.adjusted, lambda f: timer.final(f, how))
    if (confirmed := timer.confirmed(timed)) is not None:
        return confirmed
    again = FeasibleCandidate(timed.candidate, feasible.timing, replace(feasible.problem, latency=timed.latency))
    return build_within(goal, again, loop.adjusted, lambda f: timer.final_of_model(f, how))


def _fastest_allowed(session: CompileSession, goal: Goal, timer: Timer, variants: dict[str, Candidate]) -> Timed:
    """The fastest candidate whose loss is within the limit, by bisection on its latency."""
    best = min(variants.values(), key=lambda c: c.latency_us)
    if not (goal.prune and len(session.latency.sizes)):
        best = session.only_lowered(best, goal)
        timing = Timing(session.predicted_baseline_us(session.latency), best.latency_us)
        return timer.final_of_model(FeasibleCandidate(best, timing, session.prices.uncut))
    timing = timer.timing(best)
    problem = session.prices.all
    problem = replace(problem, latency=problem.latency.corrected(timing.measured_us / best.latency_us))
    best = replace(best, latency_us=timing.measured_us)
    found = _trained_within(session, goal, problem, best)
    feasible = FeasibleCandidate(found, timing, problem)
    return timer.final_of_model(feasible).at_pace_of(timing)
