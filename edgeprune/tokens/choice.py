"""The token schedule for a goal, chosen together with widths and formats.

The losses of tokens, widths and formats add up, and a schedule scales the time of every candidate by nearly the same
share. So for a budget b, a schedule with share s and error e is worth

    e + (least loss of widths and formats within b / s)

and the schedule of least sum is best. If accuracy is the limit, the least time with a sum within the limit decides. The
losses of widths and formats are those of the model with all tokens: only the schedule that is chosen is priced anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgeprune.errors import BudgetError
from edgeprune.graph import Refused
from edgeprune.passes.tokens import Site
from edgeprune.search import Problem, Searcher
from edgeprune.tokens.trials import TokenTrial

BISECTIONS = 12
SLOWEST = 4.0
"""No network takes longer than this many times the fastest without cuts: that of all blocks in float is meant."""
ROOM = 0.75
"""Share of the limit of accuracy that the tokens alone may take."""


@dataclass(frozen=True, eq=False)
class TokenChoice:
    """The trial that is chosen, or None; and why."""

    trial: TokenTrial | None
    reason: str


def choose_tokens(trials: Sequence[TokenTrial], problem: Problem, budget_us: float) -> TokenChoice:
    """The schedule with the least loss within a budget, or none if all tokens had better stay.

    Args:
        trials: schedules with their shares and errors.
        problem: of the model with all tokens.
        budget_us: allowed time by the problem's latency model, microseconds.
    """
    searcher = Searcher(problem)
    alone = _least_loss(searcher, budget_us)
    sums = [(t.error + _least_loss(searcher, budget_us / t.share), k) for k, t in enumerate(trials)]
    best, k = min(sums, default=(float("inf"), -1))
    if best < alone:
        other = "and nothing else meets the budget" if alone == float("inf") else f"without {alone:.2g}"
        return TokenChoice(trials[k], f"with them the predicted loss is {best:.2g}, {other}")
    if best == float("inf"):
        return TokenChoice(None, "no schedule meets the budget, either")
    return TokenChoice(None, f"widths and formats alone lose less: {alone:.2g}, with fewer tokens {best:.2g}")


def choose_within(
    trials: Sequence[TokenTrial], problem: Problem, drop: Callable[[TokenTrial], float], limit: float
) -> TokenChoice:
    """The schedule with the least time whose loss stays within a limit of accuracy; None if all tokens had better stay.

    Args:
        trials: schedules with their shares and errors.
        problem: of the model with all tokens.
        drop: of a schedule alone, in points.
        limit: in points; losses are compared with it by what the trials lose in both units.
    """
    drops = {t: drop(t) for t in trials}
    allowed = [t for t in trials if drops[t] <= ROOM * limit]
    if not allowed:
        least = min(drops.values(), default=0.0)
        return TokenChoice(None, f"the mildest schedule alone loses {least:.2f} points")
    searcher = Searcher(problem)
    lost = sum(drops[t] ** 2 for t in trials if drops[t] > 0)
    slope = sum(t.error * drops[t] for t in trials if drops[t] > 0) / lost if lost else 0.0
    limit_loss = max([slope * limit, *(t.error for t in allowed)])
    times = {t: t.share * _least_time(searcher, limit_loss - t.error) for t in allowed}
    best = min(allowed, key=lambda t: times[t])
    alone = _least_time(searcher, limit_loss)
    if times[best] < alone:
        return TokenChoice(best, f"with them the least predicted time is {times[best] / alone:.0%} of that without")
    return TokenChoice(None, "widths and formats alone are predicted to be faster at the same loss")


def why_all_stay(
    asked: str,
    sites: Sequence[Site] | Refused,
    choice: TokenChoice | None,
    least: float | None,
    *,
    pruned: bool,
    pay: bool,
) -> str:
    """Why no token leaves.

    Args:
        asked: the value of ``--tokens``.
        sites: where tokens may leave, or why they all stay.
        choice: that was made, if one was.
        least: the least share of the time that was found, if schedules were tried.
        pruned: whether anything may be cut.
        pay: whether any schedule pays.
    """
    if asked == "none":
        return "--tokens none"
    if not pruned:
        return "only the precision was asked for"
    if isinstance(sites, Refused):
        return str(sites)
    if least is None:
        return "the transformer has too few tokens"
    if not pay:
        return (
            "fewer tokens do not pay here: with the kernels that let them leave, the network takes at least "
            f"{least:.0%} of its time"
        )
    if choice is None or choice.trial is not None:
        return "the result with fewer tokens is not better"
    return choice.reason


def _least_loss(searcher: Searcher, budget_us: float) -> float:
    try:
        return searcher.search(budget_us).loss
    except BudgetError:
        return float("inf")


def _least_time(searcher: Searcher, limit: float) -> float:
    """The least predicted time with at most this loss, microseconds."""
    slow, fast = SLOWEST * searcher.fastest_unpruned().latency_us, searcher.fastest().latency_us
    if _least_loss(searcher, fast) <= limit:
        return fast
    best = slow
    for _ in range(BISECTIONS):
        middle = (slow * fast) ** 0.5
        if _least_loss(searcher, middle) <= limit:
            best = slow = middle
        else:
            fast = middle
    return best
