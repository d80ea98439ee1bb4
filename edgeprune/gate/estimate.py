"""What all runs of a report say about a latency: its value, how uncertain it is, and whether a disturbance is in it.

The medians of separate runs differ by more than the blocks of one run can show: memory is laid out anew, and the clock
may be another one. Several runs make this difference small, and show how large it is on this machine. Disturbed runs do
not count while more than half of the runs were quiet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, mean, median, stdev

from edgeprune.errors import UsageError
from edgeprune.report import Latency, Repeat
from edgeprune.timing import CONFIDENCE, Disturbance, disturbance, disturbance_of_ratio

DOUBT_MATTERS = 0.02
"""Change of the machine's speed, as a fraction, from which on it is weighed against the excess over a limit."""

MEDIAN_OVER_MEAN = math.sqrt(math.pi / 2)
"""Standard deviation of the median of many normal values over that of their mean; less for few of them."""

_HALF_WIDTH_SIGMAS = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)


@dataclass(frozen=True)
class Estimate:
    """A latency from all runs, or a latency over that of the original.

    Attributes:
        log: its natural logarithm, in milliseconds or a ratio.
        block_sigma: standard deviation of ``log`` as far as the blocks of the runs show it.
        run_sigma: standard deviation of ``log`` by the differences from one run to the next.
        disturbed: what disturbed it.
        runs: how many runs count.
        left_out: how many do not, because the machine was disturbed.
    """

    log: float
    block_sigma: float
    run_sigma: float
    disturbed: Disturbance | None
    runs: int
    left_out: int

    @property
    def sigma(self) -> float:
        """Standard deviation of ``log``."""
        return math.hypot(self.block_sigma, self.run_sigma)

    @property
    def state_sigma(self) -> float:
        """The same for a state of a disturbed machine: the change of states is not in it."""
        return self.sigma if self.disturbed is None else math.hypot(self.disturbed.sigma, self.run_sigma)

    def __str__(self) -> str:
        """How many runs count."""
        return f"{self.runs}" if not self.left_out else f"{self.runs} of {self.runs + self.left_out}"


def estimate(latency: Latency, session_noise: float, *, relative: bool = False) -> Estimate:
    """The latency of the result from all runs of a report.

    Args:
        latency: the measured latencies.
        session_noise: standard deviation of a median from one run to the next, as a fraction; more if the runs show so.
        relative: divide by the latency of the original, which was measured in turns.

    Raises:
        UsageError: an interval of the report is impossible.
    """
    doubt = disturbance_of_ratio if relative else disturbance
    every = [(run, doubt(run.baseline, run.result, matters=DOUBT_MATTERS)) for run in latency.runs]
    quiet = [run for run, disturbed in every if disturbed is None]
    doubts = [disturbed for _, disturbed in every if disturbed is not None]
    if 2 * len(quiet) > len(every):
        counted, found = quiet, None
    else:
        counted, found = [run for run, _ in every], _worst(doubts)
    logs = [_log(run, relative) for run in counted]
    blocks = [_sigma(run, relative) for run in counted]
    within = math.sqrt(mean(sigma**2 for sigma in blocks))
    between = max(session_noise, _between(logs, within))
    share = (MEDIAN_OVER_MEAN if len(logs) > 2 else 1.0) / math.sqrt(len(logs))
    return Estimate(median(logs), share * within, share * between, found, len(logs), len(every) - len(logs))


def _log(run: Repeat, relative: bool) -> float:
    return math.log(run.result.median_ms / (run.baseline.median_ms if relative else 1.0))


def _sigma(run: Repeat, relative: bool) -> float:
    """Standard deviation of a logarithm from its 95% interval."""
    low, high = (run.speedup.ci_low, run.speedup.ci_high) if relative else (run.result.ci_low_ms, run.result.ci_high_ms)
    if not 0 < low <= high:
        raise UsageError(f"the report has an impossible confidence interval, {low:g} to {high:g}")
    return math.log(high / low) / (2 * _HALF_WIDTH_SIGMAS)


def _between(logs: Sequence[float], within: float) -> float:
    """What separate runs differ by, beyond what their blocks explain."""
    return math.sqrt(max(0.0, stdev(logs) ** 2 - within**2)) if len(logs) > 1 else 0.0


def _worst(doubts: Sequence[Disturbance]) -> Disturbance:
    first = max(doubts, key=lambda doubt: doubt.faster)
    return replace(first, slower=max(doubt.slower for doubt in doubts), sigma=max(doubt.sigma for doubt in doubts))
