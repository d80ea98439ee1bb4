"""Which model is returned: the result, unless the original or an unpruned variant is as fast."""

from __future__ import annotations

from edgeprune.build import predicted_energy_mj, predicted_memory_mb
from edgeprune.compiler.assemble import describe_formats
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.tensorrt_session import TensorRtSession
from edgeprune.compiler.timer import ORIGINAL, RESULT, Timed
from edgeprune.errors import BudgetError
from edgeprune.latency import INT8
from edgeprune.report import Outcome
from edgeprune.search import Candidate, Goal, Searcher

NEVER_SLOWER = 1.02
"""A result must be at least this many times as fast as the best unpruned variant, or that variant is returned."""

_MISSES = ", which misses the budget: apart from the budget this does not pay"


def decide(session: CompileSession, goal: Goal, timed: Timed, margin: float) -> tuple[str, Outcome]:
    """Which model is returned (``result``, ``original`` or the name of a variant), and the outcome for the report.

    Args:
        session: of the model.
        goal: of the compile.
        timed: the result beside the original and the unpruned variants.
        margin: the budget was divided by it.
    """
    best, fewer = timed.best_other(), session.whole is not None
    gain, cut = timed.gain_over(best), session.is_cut(timed.candidate) or fewer
    best_name = "the original" if best == ORIGINAL else f"the unpruned {best} variant"
    formats = f"{session.block_name} {describe_formats(timed.candidate.formats)}"
    predicted = timed.measured is None
    compared = f"{'predicted ' if predicted else ''}{gain:.2f}x as fast as {best_name}"
    kind = "compressed" if cut else f"unpruned-{_format(timed.candidate, session)}"
    if not cut and (predicted or (goal.all_int8 or (session.as_asked and best != ORIGINAL and not goal.prune))):
        reason = _with_margin(
            f"Nothing was cut: {formats}.{_gains_nothing(kind, session, timed)}", session, goal, margin
        )
        return RESULT, Outcome(kind, not goal.has_budget and not goal.prune, reason)
    budget_us = goal.budget_us(session.predicted_baseline_us(timed.latency))
    # A cut that gains nothing is no reason to cut: then a variant within the budget is enough, without the margin.
    beyond = (
        bool(goal.limits)
        and cut
        and bool(goal.excess(predicted_values(session, timed.as_variant(best, session.floating))))
    )
    if gain >= NEVER_SLOWER or beyond or (budget_us is not None and not timed.is_met_by(best, goal, budget_us)):
        left = "Channels of the residual stream, widths" if session.stream else "Tokens, widths"
        what = f"{left if fewer else 'Widths'} and precision were chosen together"
        what = what if cut else "Nothing had to be cut"
        pays = gain >= NEVER_SLOWER
        reason = f"{what}: {formats}; {compared}{'' if pays else _MISSES}."
        return RESULT, Outcome(kind, pays, _with_margin(reason, session, goal, margin), gain, best)
    reason = f"The network that was found is {compared}, which is returned."
    if cut:
        reason = f"Pruning does not pay here: the pruned network is {compared}, which is returned."
    return best, Outcome(ORIGINAL if best == ORIGINAL else f"unpruned-{best}", False, reason, 1.0, best)


def predicted_energy(session: CompileSession, candidate: Candidate) -> tuple[float, float] | tuple[None, None]:
    """Millijoules of an inference by published power, and their typical error; None where none was published."""
    if not isinstance(session, TensorRtSession) or (rates := session.profile.energy) is None:
        return None, None
    return predicted_energy_mj(session.kernels.latency, candidate.widths, candidate.formats, rates), rates.error


def predicted_values(session: CompileSession, candidate: Candidate) -> dict[str, float]:
    """What the limits on energy and memory hold, before a candidate is built."""
    energy_mj, _ = predicted_energy(session, candidate)
    memory_mb = predicted_memory_mb(session.opened, session.builder, candidate.widths, candidate.formats)
    values = {"--max-energy-mj": energy_mj, "--max-memory-mb": memory_mb}
    return {flag: value for flag, value in values.items() if value is not None}


def uncut_fits(session: CompileSession, goal: Goal, within_us: float) -> bool:
    """Whether a network that cuts nothing is predicted to take at most so many microseconds and to keep the limits."""
    try:
        candidate = Searcher(session.prices.uncut).search(within_us)
    except BudgetError:
        return False
    return not goal.excess(predicted_values(session, candidate))


def _gains_nothing(kind: str, session: CompileSession, timed: Timed) -> str:
    """A sentence if INT8 is not faster than the float variant."""
    if kind != f"unpruned-{INT8}" or (gain := timed.gain_over(session.floating)) >= NEVER_SLOWER:
        return ""
    predicted = "predicted to be " if timed.measured is None else ""
    return (
        f" INT8 gains nothing here: the network is {predicted}{gain:.2f}x as fast as in {session.floating}, which "
        f"loses less; leave out --precision {INT8}."
    )


def _format(candidate: Candidate, session: CompileSession) -> str:
    return INT8 if any(f.startswith(INT8) for f in candidate.formats) else session.floating


def _with_margin(reason: str, session: CompileSession, goal: Goal, margin: float) -> str:
    if not goal.has_budget or margin == 1:
        return reason
    budget_ms = goal.needed_us(session.predicted_baseline_us(session.latency)) / 1e3
    return (
        f"{reason} It is predicted to meet the budget of {budget_ms:.4g} ms, with the profile's error of "
        f"{margin - 1:.0%} as margin; only a measurement on the device can confirm this."
    )
