"""What a refusal offers: budgets that can be met, with the loss that each is expected to cost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.timer import Timer
from edgeprune.errors import BudgetError
from edgeprune.latency import Latency
from edgeprune.outputs import usefulness
from edgeprune.report import Accuracy
from edgeprune.search import Candidate, Goal, fastest, search

_NONE = "no pruned network is both of use and faster than that"
TRIALS = 5
CLOSE_ENOUGH = 1.02
"""The bisection ends when its bounds differ by less than this factor."""
RESERVE = 1.08
"""A budget is offered for a network that was measured if it is this many times its latency: the next measurement
differs, and a search keeps some of its budget in reserve."""
PAYS = 1.02
"""A pruned network is only offered if it is at least this many times as fast as the best one without pruning."""


@dataclass(frozen=True, eq=False)
class Offer:
    """A budget that can be met.

    Attributes:
        budget_ms: the budget, milliseconds, rounded up.
        candidate: that the search finds for it, with its latency as predicted or measured.
        accuracy: of this candidate as it was built, before weights are learned.
    """

    budget_ms: float
    candidate: Candidate
    accuracy: Accuracy

    def text(self, baseline_us: float) -> str:
        """The latency, the loss and the flags; no flag for a budget that the original meets."""
        us, found = self.candidate.latency_us, self.accuracy
        unit = _unit(found)
        reached = (
            f"{us / 1e3:.3f} ms, {baseline_us / us:.2f}x as fast as the original, with {found.metric} "
            f"{found.after:.2f}{unit}"
        )
        if self.budget_ms * 1e3 >= baseline_us:
            return f"{reached}, which is not surely faster than the original"
        speedup = math.floor(baseline_us / self.budget_ms / 10) / 100
        return f"{reached}: --latency-ms {self.budget_ms:.3f} can be met (--speedup {speedup:.2f})"


def _unit(accuracy: Accuracy) -> str:
    return accuracy.unit if accuracy.unit in ("", "%") else f" {accuracy.unit}"


def offers(
    session: CompileSession,
    goal: Goal,
    latency: Latency,
    margin: float,
    floor_us: float = 0.0,
    timer: Timer | None = None,
) -> str:
    """What the best network without pruning reaches, and the fastest pruned one that is still of use.

    With a timer that measures, both are measured for a moment, and their budgets have `RESERVE`.

    Args:
        session: of the model.
        goal: that cannot be met.
        latency: the latency model, corrected by measurements if there are any.
        margin: an offered budget is the predicted latency times this.
        floor_us: faster networks are not tried; they were refused already.
        timer: of the goal; without one, everything is predicted.
    """
    if timer is not None and timer.measures:
        return _measured_offers(session, goal, timer)
    baseline_us = session.predicted_baseline_us(latency)
    variants = session.variants(goal.drop_limit).values()
    timed = [replace(v, latency_us=latency.total_us(v.widths, v.formats)) for v in variants]
    variant = min(timed, key=lambda v: v.latency_us)
    unpruned = Offer(_up(variant.latency_us * margin), variant, _first_accuracy(session, variant))
    texts = [f"without pruning, the best network is predicted at {unpruned.text(baseline_us)}"]
    pruned = _fastest_useful(session, goal, latency, margin, variant.latency_us, floor_us)
    if pruned is None or pruned.candidate.latency_us * PAYS > variant.latency_us:
        texts.append(_NONE)
    else:
        texts.append(f"pruned, the fastest one{_of_use(session)} at {pruned.text(baseline_us)}")
    return "; ".join(texts)


def _measured_offers(session: CompileSession, goal: Goal, timer: Timer) -> str:
    variant = min(session.variants(goal.drop_limit).values(), key=lambda v: v.latency_us)
    with session.progress.step("measuring what can be offered"):
        timing = timer.timing(variant)
    unpruned = _offer_of(variant, timing.measured_us, _first_accuracy(session, variant))
    texts = [f"without pruning, the best network was measured at {unpruned.text(timing.baseline_us)}"]
    latency = session.latency.corrected(timing.measured_us / variant.latency_us)
    pruned = _fastest_useful(session, goal, latency, RESERVE, timing.measured_us, 0.0) if goal.prune else None
    if pruned is not None:
        with session.progress.step("measuring what can be offered"):
            timing = timer.timing(pruned.candidate)
        pruned = _offer_of(pruned.candidate, timing.measured_us, pruned.accuracy)
    if pruned is None or pruned.candidate.latency_us * PAYS > unpruned.candidate.latency_us:
        texts.append(_NONE)
    else:
        texts.append(f"pruned, the fastest one{_of_use(session)} at {pruned.text(timing.baseline_us)}")
    return "; ".join(texts)


def _of_use(session: CompileSession) -> str:
    if session.builder.data.is_random:
        return " (whether it is of use, random numbers cannot tell: give --calib with data)"
    return " that is still of use"


def _first_accuracy(session: CompileSession, variant: Candidate) -> Accuracy:
    """The accuracy of the best network without pruning; says how long the search for an offer will take after it."""
    started = time.monotonic()
    accuracy = session.scores.accuracy(variant)
    session.progress.note(announced(time.monotonic() - started))
    return accuracy


def announced(seconds: float) -> str:
    """What a user waits for before a refusal, if one network takes so many seconds to build and compare."""
    text = f"the budget can't be met; up to {TRIALS + 1} networks are built and compared to offer one that can"
    return f"{text}, at least {seconds * (TRIALS + 1):.0f} s" if seconds >= 1 else text


def _offer_of(candidate: Candidate, measured_us: float, accuracy: Accuracy) -> Offer:
    return Offer(_up(measured_us * RESERVE), replace(candidate, latency_us=measured_us), accuracy)


def below_floor(session: CompileSession, accuracy: Accuracy | None) -> tuple[str, ...]:
    """Why a result is of no use; nothing if its samples are random numbers, which say nothing about the user's data."""
    return () if session.builder.data.is_random else usefulness(accuracy)


def check_useful(
    session: CompileSession, goal: Goal, accuracy: Accuracy, latency: Latency, us: float, timer: Timer
) -> None:
    """Refuse a result that lost more than the user allows, or too much to be of use without the user's consent.

    Raises:
        BudgetError: the outputs are too far from the original's; the text names them and milder budgets.
    """
    if goal.exceeds(accuracy.drop):
        raise BudgetError(
            f"the network of least expected loss that is fast enough loses {accuracy.drop:.2f} points "
            f"({accuracy.metric} {accuracy.after:.2f}{_unit(accuracy)}), more than --max-drop {goal.max_drop:g}, "
            f"so nothing was written; {offers(session, goal, latency, timer.margin, us, timer)}"
        )
    why = below_floor(session, accuracy)
    if not why or goal.accept_loss:
        return
    start = f"the result lost too much to be of use, so nothing was written: {', '.join(why)}; --accept-loss writes it"
    if not goal.has_budget:
        raise BudgetError(start)
    raise BudgetError(f"{start}; {offers(session, goal, latency, timer.margin, us, timer)}")


def _fastest_useful(
    session: CompileSession, goal: Goal, latency: Latency, margin: float, slow_us: float, floor_us: float
) -> Offer | None:
    """The smallest budget whose candidate is of use, by bisection; every budget is searched as a compile does it."""
    problem = replace(session.prices.all, latency=latency)
    fast_us, best = floor_us, None
    if fast_us <= 0:
        fast_us = fastest(problem).latency_us
        if (best := _useful(session, goal, search(problem, fast_us), _up(fast_us * margin))) is not None:
            return best
    for _ in range(TRIALS):
        if slow_us < CLOSE_ENOUGH * fast_us:
            break
        budget_ms = _up(math.sqrt(slow_us * fast_us) * margin)
        middle_us = budget_ms * 1e3 / margin
        with session.progress.step("trying a milder budget"):
            try:
                found = _useful(session, goal, search(problem, middle_us), budget_ms)
            except BudgetError:
                found = None
        best, slow_us, fast_us = (best, slow_us, middle_us) if found is None else (found, middle_us, fast_us)
    return best


def _useful(session: CompileSession, goal: Goal, candidate: Candidate, budget_ms: float) -> Offer | None:
    accuracy = session.scores.accuracy(candidate)
    if below_floor(session, accuracy) or goal.exceeds(accuracy.drop):
        return None
    return Offer(budget_ms, candidate, accuracy)


def _up(us: float) -> float:
    """Microseconds as milliseconds, rounded up to a whole microsecond so that the offer never falls short."""
    return math.ceil(us) / 1e3
