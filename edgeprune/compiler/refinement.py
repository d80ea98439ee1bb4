"""Losses that are refined by trying whole candidates, or by the results of the last search for the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.timer import Timer
from edgeprune.report import Search
from edgeprune.search import (
    Candidate,
    ClosedLoop,
    FeasibleCandidate,
    Goal,
    JointTrial,
    Refined,
    SearchHistory,
    SearchLoop,
    StartingPoint,
    load_history,
    refine,
    reweighted,
    save_history,
    solve_around,
)

TRIAL_MACS, TRIALS = 1e12, (8, 32)
"""As many whole candidates are tried as this many multiply-accumulates allow, within these bounds."""


@dataclass(frozen=True, eq=False)
class OpenedSearch:
    """A search that is ready to start.

    Attributes:
        loop: finds candidates.
        first: the candidate to try first, if there is one.
        how: how the losses were refined, for the report.
        keep: stores the results for the next search.
    """

    loop: SearchLoop
    first: Candidate | None = None
    how: Search | None = None
    keep: Callable[[FeasibleCandidate], None] = lambda _: None


def open_search(session: CompileSession, goal: Goal, timer: Timer, start: StartingPoint) -> OpenedSearch:
    """The search for a goal; its losses are refined if the target has trials of whole candidates.

    Raises:
        BudgetError: the goal can't be met; the text gives the lowest latency that was found.
    """
    problem = session.prices.all
    loop = timer.loop(problem, start)
    open_trial = session.open_trial
    if open_trial is None or not isinstance(loop, ClosedLoop):
        return OpenedSearch(loop)
    asked = start.timing.baseline_us / goal.needed_us(start.timing.baseline_us)
    settings = {"quantize": goal.quantize, "prune": goal.prune, "builder": session.builder.describe()}
    past = load_history(session.cache, settings)
    if past is not None and past.serves(problem, asked):
        return OpenedSearch(
            loop.starting_from(start.scaled(past.slowdown)).reweighted(reweighted(problem, past.factors))
        )
    refined, how = _refined(session, loop, open_trial)
    loop = loop.reweighted(refined.problem)

    def keep(feasible: FeasibleCandidate) -> None:
        timed = replace(start, timing=loop.expected_timing(start.candidate))
        slowdown = feasible.slowdown(timed, problem)
        save_history(session.cache, settings, SearchHistory(asked, refined.factors, slowdown))

    return OpenedSearch(loop, refined.candidate, how, keep)


def _refined(
    session: CompileSession, loop: ClosedLoop, open_trial: Callable[[], JointTrial]
) -> tuple[Refined, Search | None]:
    """Factors for the losses, and a candidate within the budget, by trying whole candidates.

    If the first candidate has no loss, nothing is tried.
    """
    progress = session.progress
    with progress.step("searching and measuring"):
        candidate, within_us = loop.approach()
    problem = loop.problem
    if candidate.loss <= 0:
        factors = np.ones(len(problem.levels) + len(problem.format_loss))
        return Refined(problem, factors, candidate, 0.0, 0.0, 0), None
    with progress.step("solving around the candidate"):
        solved = solve_around(problem, candidate, within_us)
    trial = open_trial()
    samples = trial.probe.items
    trials = int(np.clip(TRIAL_MACS / max(session.network.macs * samples, 1), *TRIALS))
    with progress.step("trying whole candidates") as step:
        found = refine(
            problem,
            solved.candidate,
            within_us,
            trial.error,
            trials=trials,
            progress=step.fraction,
            searcher=loop.searcher,
        )
    return found, Search(found.trials, samples, found.first_error, found.error, solved.gap)
