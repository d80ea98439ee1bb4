"""The compile sessions of one request: of the model, and of the model after tokens left.

Whether tokens leave is chosen for each goal together with widths and formats (`edgeprune.tokens`). The model after a
schedule is a model like any other, with a session of its own. So everything else is searched on it as usual.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx_ir as ir

from edgeprune.build import latency_within
from edgeprune.calibration import TOKEN_TRIALS
from edgeprune.compiler.cpu_session import CpuSession
from edgeprune.compiler.delivery import values_of
from edgeprune.compiler.open_session import open_beside, open_session
from edgeprune.compiler.opening import Opening
from edgeprune.compiler.outcome import predicted_values, uncut_fits
from edgeprune.compiler.pipeline import Reached, reach
from edgeprune.compiler.request import Request
from edgeprune.compiler.session import CompileSession
from edgeprune.compiler.tensorrt_session import TensorRtSession
from edgeprune.compiler.timer import RESULT
from edgeprune.errors import BudgetError
from edgeprune.graph import Refused
from edgeprune.latency import INT8
from edgeprune.passes.tokens import SETTINGS, Site, token_sites
from edgeprune.recovery import Probe
from edgeprune.report import TokenLeave, Tokens
from edgeprune.search import DEFAULT_MAX_DROP, Goal, Searcher
from edgeprune.support import Progress
from edgeprune.tokens import (
    Narrowing,
    TokenChoice,
    TokenSchedule,
    TokenTrial,
    choose_tokens,
    choose_within,
    cpu_shares,
    predicted_shares,
    schedules,
    stream_trials,
    try_schedules,
    units_of,
    why_all_stay,
)

CLEARLY = 1.02
"""Tokens leave only if that makes the result this many times as fast as the one with all tokens."""

STREAM = "the result has {narrowing}, in the basis of its principal directions: {reason}; --embedding none keeps all"

Found = tuple[CompileSession, Reached]

LIMIT_ATTEMPTS, SPARE = 4, 0.98
"""Results that are built for limits on energy, memory or the 99th percentile; and the share of them to aim at again."""


@dataclass(eq=False)
class Sessions:
    """The sessions of one request.

    Attributes:
        request: what was asked for.
        may: whether the model may be pruned and quantized.
        opening: the model with its data.
        whole: the session of the model with all tokens.
    """

    request: Request
    may: Goal
    opening: Opening
    whole: CompileSession
    _opened: dict[TokenSchedule | Narrowing, CompileSession] = field(default_factory=dict)

    def reach(self, goal: Goal) -> Found:
        """The best network for a goal, with the session that it belongs to.

        Limits on energy, memory and the 99th percentile are kept by a latency that is short enough: first by the
        predictions, then by what the result measures.

        Raises:
            BudgetError: the goal can't be met; the text gives the lowest latency that was found, and other budgets.
            BackendError: a device cannot be reached, or does not accept a model.
        """
        if not goal.limits:
            return self._reach(goal)
        factors, least = dict[str, float](), dict[str, float]()
        for _ in range(LIMIT_ATTEMPTS):
            asked = self._within_limits(goal, factors, least)
            try:
                session, reached = self._reach(asked)
            except BudgetError as error:
                raise BudgetError(f"{goal.out_of_reach(least)}{error}") from error
            values = values_of(session, reached)
            least |= {flag: min(value, least.get(flag, value)) for flag, value in values.items()}
            if not (over := goal.excess(values)):
                return session, reached
            guesses = {"--p99": reached.candidate.latency_us / 1e3} | predicted_values(session, reached.candidate)
            factors |= {flag: max(factors.get(flag, 1.0), values[flag] / guesses[flag]) / SPARE for flag in over}
        raise BudgetError(f"{goal.out_of_reach(least)}the limits were not met in {LIMIT_ATTEMPTS} attempts")

    def _within_limits(self, goal: Goal, factors: Mapping[str, float], least: dict[str, float]) -> Goal:
        """The goal with the longest latency at which energy and memory are within their limits.

        Args:
            goal: with limits.
            factors: flag -> how many times as large as predicted a result was.
            least: flag -> the least value so far; that of the fastest network is put into it if nothing fits.
        """
        session, margin = self.whole, self._margin
        slow_us = session.predicted_baseline_us(session.latency)
        slow_us = goal.needed_us(slow_us) / margin if goal.has_budget else slow_us
        if goal.p99_ms is not None:
            slow_us = min(slow_us, 1e3 * goal.p99_ms / margin / factors.get("--p99", 1.0))
        if not factors and uncut_fits(session, goal, slow_us):  # then no width needs a price
            return replace(goal, latency_ms=slow_us * margin / 1e3, speedup=None)
        searcher = Searcher(session.prices.all)

        def values(us: float) -> dict[str, float]:
            found = predicted_values(session, searcher.search(us))
            return {flag: value * factors.get(flag, 1.0) for flag, value in found.items()}

        fast_us = searcher.fastest().latency_us * (1 + 1e-9)
        if fast_us >= slow_us:  # the search refuses it, with its own words
            return replace(goal, latency_ms=slow_us * margin / 1e3, speedup=None)
        with session.progress.step("looking for a latency within the limits"):
            found_us = latency_within(fast_us, slow_us, lambda us: not goal.excess(values(us)))
        if found_us is None:
            least |= {flag: min(value, least.get(flag, value)) for flag, value in values(fast_us).items()}
            raise BudgetError(f"{goal.out_of_reach(least)}by the prediction of the fastest network")
        return replace(goal, latency_ms=found_us * margin / 1e3, speedup=None)

    def _reach(self, goal: Goal) -> Found:
        if not goal.prune or not self.trials:
            return self._reach_whole(goal)
        if goal.has_budget:
            choice = self._choice(goal)
            with_fewer = self._reach_with(choice, goal)
            if with_fewer is None or self._drop(with_fewer) <= DEFAULT_MAX_DROP:
                return with_fewer or self._reach_whole(goal, choice)
            try:
                with_all = self._reach_whole(goal, choice)
            except BudgetError:
                return with_fewer
            return min(with_fewer, with_all, key=self._drop)
        with_all = self._reach_whole(goal)
        choice = choose_within(self.trials, self.whole.prices.all, self._drop_of, goal.drop_limit)
        found = self._reach_with(choice, goal)
        if found is not None and found[1].speed >= CLEARLY * with_all[1].speed:
            return found
        return self._noted(self.whole, choice), with_all[1]

    @cached_property
    def sites(self) -> Sequence[Site] | Refused:
        """Where tokens may leave, or why they all stay."""
        opened = self.opening.opened
        if opened.ranges:
            return Refused("the model arrived quantized, and its ranges are those of all tokens")
        return token_sites(opened.dense)

    @cached_property
    def trials(self) -> list[TokenTrial]:
        """The schedules and the narrower residual streams that pay."""
        return [*self.schedules[0], *self.streams]

    @cached_property
    def streams(self) -> list[TokenTrial]:
        """The narrower residual streams that pay."""
        if self.request.embedding == "none":
            return []
        opening, whole = self.opening, self.whole
        threads, by = opening.conditions.threads, self._timed_by
        return stream_trials(
            opening.opened, opening.fit, whole.network.macs, threads, self._items, self._shares, by, opening.cache,
            whole.progress,
        )  # fmt: skip

    def _items(self, trials: int) -> int:
        """On how many samples each of so many models is tried."""
        return TOKEN_TRIALS.of(self.whole.network.macs * trials)

    @cached_property
    def schedules(self) -> tuple[list[TokenTrial], float]:
        """The schedules that pay, and the smallest share of time that any takes."""
        allowed = SETTINGS if self.request.tokens == "auto" else [self.request.tokens]
        if self.request.tokens == "none" or isinstance(self.sites, Refused):
            return [], 1.0
        opened, fit = self.opening.opened, self.opening.fit
        multiple = 1 if isinstance(self.whole, CpuSession) else 8
        wanted = schedules(self.sites, allowed, multiple=multiple)
        with self.whole.progress.step("trying to let tokens leave") as step:
            items = self._items(len(wanted))
            probe = functools.cache(lambda: Probe(opened.dense, fit, items, self.opening.conditions.threads))
            settings = {"schedules": [str(s) for s in wanted], "items": items, "timed": self._timed_by}
            return try_schedules(
                opened,
                self.sites,
                wanted,
                self._shares,
                lambda model: probe().error(model),
                step.fraction,
                lambda compute: self.opening.cache.arrays("token trials", settings, compute),
            )

    @property
    def _timed_by(self) -> list[str]:
        """Everything that the times of schedules depend on, besides the model."""
        if isinstance(self.whole, CpuSession):
            harness, form = self.whole.harness, self.whole.network.lowering.form
            return [harness.device, harness.runtime_version, str(harness.threads), form, str(self.may.quantize)]
        return [repr(self.request.profile), repr(self.request.options), str(self.may.quantize)]

    def _shares(self, models: Sequence[ir.Model], tried: Sequence[TokenSchedule | Narrowing]) -> list[float]:
        whole, int8 = self.opening.opened.fixed, self.may.quantize
        if isinstance(self.whole, CpuSession):
            harness, lowering = self.whole.harness, self.whole.network.lowering
            kinds = [(s.setting, len(s.sites)) if isinstance(s, TokenSchedule) else "stream" for s in tried]
            return cpu_shares(whole, models, kinds, harness, lowering, self.opening.fit, int8=int8)
        options = self.request.options
        int8 = int8 and options.precision in ("auto", INT8)
        return predicted_shares(whole, models, self.request.profile, options.power_mode, int8=int8)

    @property
    def _margin(self) -> float:
        """A budget is divided by this where latencies are predicted only."""
        is_predicted = isinstance(self.whole, TensorRtSession) and self.whole.device is None
        return 1 + self.whole.latency.error if is_predicted else 1.0

    def _choice(self, goal: Goal) -> TokenChoice:
        whole = self.whole
        budget_us = goal.needed_us(whole.predicted_baseline_us(whole.latency)) / self._margin
        return choose_tokens(self.trials, whole.prices.all, budget_us)

    def _drop_of(self, trial: TokenTrial) -> float:
        """The points that a schedule loses alone, in float."""
        return self.opening.evaluator.drop(self.whole.scores.run_of(trial.opened.dense))

    def _drop(self, found: Found) -> float:
        return found[0].scores.accuracy(found[1].candidate).drop

    def _reach_whole(self, goal: Goal, choice: TokenChoice | None = None) -> Found:
        return self._noted(self.whole, choice), reach(self.whole, goal)

    def _reach_with(self, choice: TokenChoice, goal: Goal) -> Found | None:
        """The best network with fewer tokens, if there is one that is worth them."""
        if choice.trial is None:
            return None
        session = self._session(choice.trial, choice.reason)
        try:
            reached = reach(session, goal)
        except BudgetError:
            return None
        return (session, reached) if reached.returned == RESULT else None

    def _noted(self, session: CompileSession, choice: TokenChoice | None) -> CompileSession:
        """A session of all tokens, which says why they stay; it says nothing without attention."""
        if not any(n.op_type in ("Softmax", "Attention") for n in self.opening.opened.dense.graph):
            return session
        asked, least, pay = self.request.tokens, self._least, bool(self.schedules[0])
        reason = why_all_stay(asked, self.sites, choice, least, pruned=self.may.prune, pay=pay)
        return replace(session, tokens=Tokens("none", reason=reason, time_share=least))

    @property
    def _least(self) -> float | None:
        """The least share of the time that was found, if schedules were tried."""
        was_tried = self.may.prune and self.request.tokens != "none" and not isinstance(self.sites, Refused)
        return self.schedules[1] if was_tried and self.schedules[1] != 1 else None

    def _session(self, trial: TokenTrial, reason: str) -> CompileSession:
        schedule = trial.schedule
        assert isinstance(schedule, TokenSchedule | Narrowing)
        if schedule not in self._opened:
            cache = self.opening.cache.of(str(schedule))
            opening = replace(self.opening, opened=trial.opened, cache=cache, streams=0)
            if isinstance(schedule, Narrowing):
                opening = replace(opening, notes=(*opening.notes, STREAM.format(narrowing=schedule, reason=reason)))
            if units_of(trial.opened) != units_of(self.opening.opened) or isinstance(schedule, Narrowing):
                opening = replace(opening, width_cache=opening.cache)
            self._opened[schedule] = open_beside(self.request, opening, self.may, self.whole)
        if isinstance(schedule, Narrowing):
            stream = schedule.channels, schedule.kept
            return self._noted(replace(self._opened[schedule], stream=stream), None)
        counts, left = [], schedule.sites[0].tokens
        for site, leave in zip(schedule.sites, schedule.leave, strict=True):
            counts.append(TokenLeave(site.value, site.node, left, leave))
            left -= leave
        tokens = Tokens(schedule.setting, tuple(counts), reason, trial.error, trial.share)
        return replace(self._opened[schedule], tokens=tokens)


def open_sessions(request: Request, may: Goal, progress: Progress) -> Sessions:
    """The sessions of a request; arguments and errors are those of `open_session`, which opens the first."""
    return Sessions(request, may, *open_session(request, may, progress))
