"""Detects a disturbed machine from the measurements, and how much of a latency the disturbance may explain.

The original model is always the same work, so a change of its block times over the run is a change of the machine.
A latency is in doubt in three cases:

* The blocks drift: they grow or shrink steadily, by more than chance (Mann and Whitney 1947) and by enough to matter,
  as when a processor heats up and its clock falls.
* The machine changed its speed: original and result, measured in turns, become faster and slower together (their
  blocks are correlated), and in one round both were well below their medians, as when a hot processor recovers.
* Other processes had the processor for much of the time.

The doubt is a fraction of the latency: how much faster, and how much slower, than the median the machine was at times.
A disturbance cannot explain an excess over a limit that is larger than the doubt. A ratio of two models that were
measured in turns does not depend on what slowed both, so its doubt comes from the blocks of the ratio alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, correlation, median

from edgeprune.timing.protocol import Measurement

MATTERS = 0.05
"""Drift, as a fraction, from which on a measurement counts as disturbed."""

CHANCE = 0.01
"""Probability that blocks without a drift are taken for drifting."""

DENIED = 0.2
"""Share of the time without the processor above which processor time is unreliable too: caches were shared."""

_STATE_BLOCKS = 3
"""Fewest neighbouring blocks whose median is a state of the machine and no outlier."""


@dataclass(frozen=True)
class Disturbance:
    """What disturbed a measurement.

    Attributes:
        reason: Half a sentence for people.
        faster: How much the median may exceed the latency in the machine's fastest state, as a fraction of the latter.
        slower: How much the latency in the slowest state may exceed the median, as a fraction of the median.
        sigma: Standard deviation of the logarithm of a state's latency. The interval of the median is wider: it
            contains the change from one state to another.
    """

    reason: str
    faster: float
    slower: float
    sigma: float

    def __str__(self) -> str:
        """The reason."""
        return self.reason


def disturbance(baseline: Measurement, result: Measurement, *, matters: float = MATTERS) -> Disturbance | None:
    """Why the latency of ``result`` is in doubt, and by how much; None if it is reliable.

    Args:
        baseline: The original model, measured in turns with the result.
        result: The result.
        matters: Smallest change of the machine's speed that counts, as a fraction.
    """
    for name, measured in (("original", baseline), ("result", result)):
        if abs(drift := _drift(measured.blocks_ms)) > matters:
            how = "slower" if drift > 0 else "faster"
            reason = f"the {name} became {abs(drift):.0%} {how} during the measurement, as with a changing clock"
            return Disturbance(reason, *_states(result.blocks_ms))
        if (busy := _busy(measured, result)) is not None:
            return dataclasses.replace(busy, reason=f"{busy.reason} while the {name} was measured")
    if (faster := _faster_together(baseline.blocks_ms, result.blocks_ms)) > matters:
        reason = f"the machine was at times {faster:.0%} faster for original and result, as with a changing clock"
        found = Disturbance(reason, *_states(result.blocks_ms))
        return dataclasses.replace(found, faster=max(faster, found.faster))
    return None


def disturbance_of_ratio(baseline: Measurement, result: Measurement, *, matters: float = MATTERS) -> Disturbance | None:
    """Why the ratio of two models that were measured in turns is in doubt, and by how much; None if it is reliable.

    Args:
        baseline: The original model, in the denominator.
        result: The result, in the numerator.
        matters: Smallest change of the ratio that counts, as a fraction.
    """
    for name, measured in (("original", baseline), ("result", result)):
        if measured.denied > DENIED and (busy := _busy(measured, result)) is not None:
            return dataclasses.replace(busy, reason=f"{busy.reason} while the {name} was measured")
    if len(baseline.blocks_ms) != len(result.blocks_ms):
        return None
    ratios = [b / a for a, b in zip(baseline.blocks_ms, result.blocks_ms, strict=True)]
    if abs(drift := _drift(ratios)) > matters:
        how = "slower" if drift > 0 else "faster"
        reason = f"the result became {abs(drift):.0%} {how} than the original during the measurement"
        return Disturbance(reason, *_states(ratios))
    return None


def _busy(measured: Measurement, result: Measurement) -> Disturbance | None:
    """What other processes did while ``measured`` ran, and the doubt it puts on the latency of ``result``."""
    noise = _noise(result.blocks_ms) / math.sqrt(len(result.blocks_ms))
    if measured.denied > DENIED:
        reason = f"other processes had the processor {measured.denied:.0%} of the time"
        return Disturbance(reason, measured.denied, 0.0, noise)
    rounds = measured.set_aside + len(measured.blocks_ms)
    if measured.set_aside > rounds / 2:  # the rounds that count were quiet
        return Disturbance(f"{measured.set_aside} of {rounds} rounds were disturbed", MATTERS, MATTERS, noise)
    return None


def _states(blocks: Sequence[float]) -> tuple[float, float, float]:
    """How much faster and slower than the median the machine was at times, as fractions, and a state's deviation.

    A state is the median of neighbouring blocks: one block alone may be an outlier.
    """
    width = min(len(blocks), max(_STATE_BLOCKS, len(blocks) // 6))
    middle, states = median(blocks), [median(blocks[i : i + width]) for i in range(len(blocks) - width + 1)]
    return middle / min(states) - 1, max(states) / middle - 1, _noise(blocks) / math.sqrt(width)


def _noise(blocks: Sequence[float]) -> float:
    """Standard deviation of a block's logarithm in one state of the machine, times that of a median over a mean.

    It follows from the differences of neighbours, which a change of state moves only once (von Neumann 1941).
    """
    if len(blocks) < 2:
        return 0.0
    steps = median(abs(math.log(b / a)) for a, b in pairwise(blocks))
    return math.sqrt(math.pi / 2) * steps / (NormalDist().inv_cdf(0.75) * math.sqrt(2))


def _drift(blocks_ms: Sequence[float]) -> float:
    """How much slower the last third of the blocks is than the first, as a fraction; 0 if that may be chance."""
    third = len(blocks_ms) // 3
    if third < 2:
        return 0.0
    first, last = blocks_ms[:third], blocks_ms[-third:]
    return median(last) / median(first) - 1 if _chance(first, last) < CHANCE else 0.0


def _faster_together(a_ms: Sequence[float], b_ms: Sequence[float]) -> float:
    """How much faster than its median each series was in the best round of both; 0 if that may be chance.

    Independent noise makes the two fast at different times; a changing clock makes them fast at the same time.
    """
    if len(a_ms) != len(b_ms) or len(a_ms) < 6:
        return 0.0
    a, b = ([math.log(ms / median(series)) for ms in series] for series in (a_ms, b_ms))
    if not _correlated(a, b):
        return 0.0
    return math.expm1(max(0.0, *(-max(x, y) for x, y in zip(a, b, strict=True))))


def _correlated(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two series rise and fall together by more than chance (Fisher 1921: artanh of r is nearly normal)."""
    if min(a) == max(a) or min(b) == max(b):
        return False
    r = min(correlation(a, b), 1 - 1e-12)
    return math.atanh(r) * math.sqrt(len(a) - 3) > NormalDist().inv_cdf(1 - CHANCE)


def _chance(a: Sequence[float], b: Sequence[float]) -> float:
    """Two-sided probability that two samples of one distribution differ in rank as much as these (Mann-Whitney)."""
    wins = sum((y > x) + 0.5 * (y == x) for x in a for y in b)
    n, m = len(a), len(b)
    if n + m <= 12:  # exact if all of one exceed all of the other; less is no evidence with so few values
        return 2 / math.comb(n + m, n) if wins in (0.0, float(n * m)) else 1.0
    z = (abs(wins - n * m / 2) - 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
    return 2 * (1 - NormalDist().cdf(z))
