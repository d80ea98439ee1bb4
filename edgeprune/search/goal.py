"""The goal of a compile: a latency or a speed-up, a limit on the loss of accuracy, or both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from edgeprune.timing import Measurement, Ratio, ratio

DEFAULT_MAX_DROP = 1.0
CHANCE = 0.25
"""A miss counts as chance up to this fraction of the way from the measured value to the bound of its interval. Beyond
that, another attempt costs less than a longer measurement, which would most likely confirm the miss."""


@dataclass(frozen=True)
class Goal:
    """The goal: a latency or a speed-up, a limit on the loss of accuracy, or both.

    With both, the least expected loss at that latency is looked for, and refused if it is above the limit.

    ``accept_loss``: a result is delivered even if its outputs are too far from the original's to be of use.
    ``all_int8``: without a budget, every block that has a form in INT8 gets it, however fast it is.
    ``explain_loss``: the report tells what the loss comes from, by variants with one thing taken back.
    ``max_energy_mj``, ``max_memory_mb``, ``p99_ms``: further limits; a latency is looked for that keeps them.
    """

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    prune: bool = True
    quantize: bool = True
    accept_loss: bool = False
    explain_loss: bool = False
    all_int8: bool = False
    max_energy_mj: float | None = None
    max_memory_mb: float | None = None
    p99_ms: float | None = None

    @property
    def limits(self) -> dict[str, float]:
        """Flag -> limit of what is neither the latency's median nor accuracy."""
        named = {"--max-energy-mj": self.max_energy_mj, "--max-memory-mb": self.max_memory_mb, "--p99": self.p99_ms}
        return {flag: limit for flag, limit in named.items() if limit is not None}

    def excess(self, values: Mapping[str, float]) -> dict[str, float]:
        """Flag -> how many times a value is its limit, of the values beyond it."""
        over = {flag: values[flag] / limit for flag, limit in self.limits.items() if flag in values}
        return {flag: times for flag, times in over.items() if times > 1}

    def out_of_reach(self, least: Mapping[str, float]) -> str:
        """The start of a sentence: which limits are beyond the least that was reached, and what that is."""
        units = {"--max-energy-mj": "mJ", "--max-memory-mb": "MB", "--p99": "ms"}
        told = [
            f"{flag} {limit:g} can't be met: the least that was reached is {least[flag]:.4g} {units[flag]}"
            for flag, limit in self.limits.items()
            if least.get(flag, 0.0) > limit
        ]
        return "".join(f"{text}; " for text in told)

    @property
    def has_budget(self) -> bool:
        """Whether there is a limit on the latency."""
        return self.latency_ms is not None or self.speedup is not None

    @property
    def without_budget(self) -> str | None:
        """What a compile does if no budget was given, in a sentence; None if one was given."""
        if self.has_budget or self.max_drop is not None:
            return None
        if not self.prune:
            return "no budget: nothing is cut, the network is only given the precision that was asked for"
        return (
            f"no budget: this looks for the fastest network that loses at most {DEFAULT_MAX_DROP:g} point; "
            "--latency-ms, --speedup or --max-drop set a budget"
        )

    @property
    def drop_limit(self) -> float:
        """Points of accuracy that may be lost if accuracy is the limit."""
        return DEFAULT_MAX_DROP if self.max_drop is None else self.max_drop

    @property
    def limit_beside_budget(self) -> float:
        """Points of accuracy that a result within the budget may lose; infinite without such a limit."""
        return self.max_drop if self.has_budget and self.max_drop is not None else math.inf

    @property
    def limit_of_result(self) -> float:
        """Points of accuracy that a result may lose: beside its budget, or by its goal if accuracy is the limit."""
        return self.limit_beside_budget if self.has_budget else self.drop_limit

    def exceeds(self, drop: float) -> bool:
        """Whether a result within the budget loses more than the user allows."""
        return drop > self.limit_beside_budget

    def budget_us(self, baseline_us: float) -> float | None:
        """Largest latency of the result in microseconds; None if accuracy is the limit."""
        if self.latency_ms is not None:
            return self.latency_ms * 1e3
        return None if self.speedup is None else baseline_us / self.speedup

    def needed_us(self, baseline_us: float) -> float:
        """As `budget_us`, if there is a budget.

        Raises:
            ValueError: accuracy is the limit.
        """
        if (budget_us := self.budget_us(baseline_us)) is None:
            raise ValueError("there is no budget")
        return budget_us

    def fulfilled(self, original: Measurement, result: Measurement) -> float:
        """How many times as fast as asked for a measured result is; a speed-up is computed from paired blocks."""
        return self._fulfilled(original, result).value

    def surely_fulfilled(self, original: Measurement, result: Measurement) -> float:
        """The lower bound of `fulfilled`, by the interval of the measurement."""
        return self._fulfilled(original, result).ci_low

    def is_missed_by_chance(self, original: Measurement, result: Measurement) -> bool:
        """Whether a result misses the goal by so little that a longer measurement may show that it meets it."""
        found = self._fulfilled(original, result)
        return found.value < 1 <= found.value * math.pow(found.ci_high / found.value, CHANCE)

    def _fulfilled(self, original: Measurement, result: Measurement) -> Ratio:
        if self.latency_ms is not None:
            ms = self.latency_ms
            return Ratio(ms / result.median_ms, ms / result.ci_high_ms, ms / result.ci_low_ms)
        if self.speedup is None:
            return Ratio(math.inf, math.inf, math.inf)
        found = ratio(original, result)
        return Ratio(found.value / self.speedup, found.ci_low / self.speedup, found.ci_high / self.speedup)

    def is_met(self, original: Measurement, result: Measurement) -> bool:
        """Whether a measured result is fast enough."""
        return self.fulfilled(original, result) >= 1
