"""What is asked of a compile: a latency, a speed-up, or the accuracy that may be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgeprune.timing import Measurement, Ratio, ratio

DEFAULT_MAX_DROP = 1.0
CHANCE = 0.25
"""Of the way from what was measured to the bound of its interval, as far as a miss is put down to chance: beyond that,
another attempt costs less than the measurement that would most likely confirm the miss."""


@dataclass(frozen=True)
class Goal:
    """What was asked for: at most one of a latency, a speed-up and the accuracy that may be lost."""

    latency_ms: float | None = None
    speedup: float | None = None
    max_drop: float | None = None
    prune: bool = True
    quantize: bool = True

    @property
    def has_budget(self) -> bool:
        """Whether a latency was asked for."""
        return self.latency_ms is not None or self.speedup is not None

    @property
    def drop_limit(self) -> float:
        """Points of accuracy that may be lost where accuracy is the limit."""
        return DEFAULT_MAX_DROP if self.max_drop is None else self.max_drop

    def budget_us(self, baseline_us: float) -> float | None:
        """Microseconds that the result may take; None where accuracy is the limit."""
        if self.latency_ms is not None:
            return self.latency_ms * 1e3
        return None if self.speedup is None else baseline_us / self.speedup

    def needed_us(self, baseline_us: float) -> float:
        """The same where there is a budget.

        Raises:
            ValueError: accuracy is the limit.
        """
        if (budget_us := self.budget_us(baseline_us)) is None:
            raise ValueError("there is no budget")
        return budget_us

    def fulfilled(self, original: Measurement, result: Measurement) -> float:
        """How many times as fast as asked for a measured result is; a speed-up is judged by paired blocks."""
        return self._fulfilled(original, result).value

    def surely_fulfilled(self, original: Measurement, result: Measurement) -> float:
        """The same at the least, by the measurement's interval."""
        return self._fulfilled(original, result).ci_low

    def is_missed_by_chance(self, original: Measurement, result: Measurement) -> bool:
        """Whether a result is not fast enough by so little that measuring on may well show that it is."""
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
