"""Compile for a CPU: everything is measured here, on the machine that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edgeprune.compiler.clock import Clock
from edgeprune.compiler.compiled import Compiled
from edgeprune.compiler.workbench import Workbench
from edgeprune.latency import same_work
from edgeprune.report import Search
from edgeprune.search import (
    Candidate,
    ClosedLoop,
    FeasibleCandidate,
    Goal,
    SearchHistory,
    build_within,
    keep,
    least_latency,
    recall,
    weighed,
)


def reach(bench: Workbench, goal: Goal) -> Compiled:
    """Find, build and measure the best network for the goal.

    Raises:
        BudgetError: if the goal can't be met; the text says what can.
    """
    found = _within_budget(bench, goal) if goal.has_budget else _least_latency(bench, goal)
    with bench.progress.step("recovering accuracy"):
        return _recovered(bench, found)


def _recovered(bench: Workbench, found: Compiled) -> Compiled:
    """The same network with weights learned from the dense one, where that brings it closer: its time stays."""
    if not bench.builder.recover(found.candidate.widths, found.candidate.formats, bench.progress):
        return found
    return replace(found, model=bench.builder.build(found.candidate.widths, found.candidate.formats))


def _within_budget(bench: Workbench, goal: Goal) -> Compiled:
    """The choice of least loss that measures within the budget."""
    starting_point = bench.starting_point()
    budget_us = goal.budget_us(starting_point.timing.baseline_us) or float("inf")
    if starting_point.timing.measured_us <= budget_us and (enough := _unpruned_within_budget(bench, goal)) is not None:
        return enough
    known, asked = bench.scores.known, starting_point.timing.baseline_us / budget_us
    settings = {"quantize": goal.quantize, "prune": goal.prune, "builder": bench.builder.describe()}
    past = recall(known, settings)
    clock = Clock(bench, goal, starting_point.timing.baseline_us)
    refined, first, how = None, None, None
    served = past is not None and past.serves(bench.problem, asked)
    started = starting_point.scaled(past.slowdown) if past is not None and served else starting_point
    loop = ClosedLoop(bench.problem, goal.needed_us, clock.shortly, clock.well, started)
    if past is not None and served:
        loop = loop.weighing(weighed(bench.problem, past.factors))
    else:
        refined, how = bench.refined(loop)
        loop, first = loop.weighing(refined.problem), refined.candidate

    with bench.progress.step("searching and measuring"):
        feasible = loop.meet(first)

    found = _in_time(clock, feasible, loop.adjusted, how)
    if refined is not None and how is not None:
        unbent = replace(starting_point, timing=loop.taken(starting_point.candidate))
        keep(known, settings, SearchHistory(asked, refined.factors, feasible.slowdown(unbent, bench.problem)))
    return found


def _in_time(
    clock: Clock,
    feasible: FeasibleCandidate,
    adjusted: Callable[[FeasibleCandidate, float], FeasibleCandidate],
    how: Search | None,
) -> Compiled:
    """The choice, or one near it, built, that meets its budget when it is measured for good.

    A stand-in is measured for it, so that nothing is built in vain; where that is not the same work as what is built,
    that is measured again.
    """
    bench, goal = clock.bench, clock.goal
    found = build_within(goal, feasible, adjusted, lambda feasible: clock.for_good(feasible, how))
    model = bench.built(found.candidate)
    if same_work(model, found.model):
        found = replace(found, model=model)
    else:
        again = FeasibleCandidate(found.candidate, feasible.timing, replace(feasible.problem, latency=found.latency))
        found = build_within(
            goal,
            again,
            adjusted,
            lambda feasible: bench.result(feasible.candidate, feasible.problem.latency, how, goal=goal),
        )
    return _at_final_pace(found, feasible.timing.baseline_us)


def _unpruned_within_budget(bench: Workbench, goal: Goal) -> Compiled | None:
    """The best network that cuts nothing, if it is fast enough: whatever else is would have to be faster still."""
    if bench.unpruned is None:
        return None
    floats = replace(bench, variants={"fp32": bench.variants["fp32"]}, formats={"fp32": bench.formats["fp32"]})
    found = floats.result(bench.unpruned, bench.problem.latency, model=bench.variants["int8"])
    return found if goal.is_met(found.measured["original"], found.measured["result"]) else None


def _least_latency(bench: Workbench, goal: Goal) -> Compiled:
    """The fastest choice that loses no more than the goal allows, by bisection on the budget."""
    problem, sizes = bench.problem, bench.problem.latency.sizes
    best = bench.unpruned
    if best is None:
        floats = bench.formats["fp32"]
        best = Candidate(sizes, floats, problem.latency.total_us(sizes, floats), 0.0)
    if not goal.prune or not len(sizes):
        return bench.result(best, problem.latency)
    timing = bench.timing(best)
    problem = replace(problem, latency=problem.latency.corrected(timing.measured_us / best.latency_us))
    best = replace(best, latency_us=timing.measured_us)
    best = least_latency(
        problem, best, lambda candidate: bench.is_acceptable(candidate, goal.drop_limit), bench.progress
    )
    return _at_final_pace(bench.result(best, problem.latency), timing.baseline_us)


def _at_final_pace(found: Compiled, baseline_us: float) -> Compiled:
    """What was predicted when the original took so long, as it is at the speed that the machine had in the end."""
    pace = found.measured["original"].median_ms * 1e3 / baseline_us
    candidate = replace(found.candidate, latency_us=pace * found.candidate.latency_us)
    return replace(found, candidate=candidate, latency=found.latency.corrected(pace))
