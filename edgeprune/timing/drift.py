"""Detects a disturbed machine from the measurements: a throttled clock, or other processes on the processor.

The original model is always the same work, so a change of its block times over the run is a change of the machine.
A latency is unreliable in three cases:

* The blocks drift: they grow or shrink steadily, by more than chance (Mann and Whitney 1947) and by enough to matter,
  as when a processor heats up and its clock falls.
* The machine changed its speed: original and result, measured in turns, become faster and slower together (their
  blocks are correlated), and in one round both were well below their medians, as when a hot processor recovers.
* Other processes had the processor for much of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, correlation, median

from edgeprune.timing.protocol import Measurement

MATTERS = 0.05
"""Drift, as a fraction, below which a latency can still be compared with a limit."""

CHANCE = 0.01
"""Probability that blocks without a drift are taken for drifting."""

DENIED = 0.2
"""Share of the time without the processor above which processor time is unreliable too: caches were shared."""


def disturbance(baseline: Measurement, result: Measurement) -> str | None:
    """Why the latencies of this run are unreliable, as half a sentence; None if they are reliable."""
    for name, measured in (("original", baseline), ("result", result)):
        if abs(drift := _drift(measured.blocks_ms)) > MATTERS:
            how = "slower" if drift > 0 else "faster"
            return f"the {name} became {abs(drift):.0%} {how} during the measurement, as with a changing clock"
        if (busy := _busy(measured)) is not None:
            return f"{busy} while the {name} was measured"
    if (faster := _faster_together(baseline.blocks_ms, result.blocks_ms)) > MATTERS:
        return f"the machine was at times {faster:.0%} faster for original and result, as with a changing clock"
    return None


def _busy(measured: Measurement) -> str | None:
    if measured.denied > DENIED:
        return f"other processes had the processor {measured.denied:.0%} of the time"
    rounds = measured.set_aside + len(measured.blocks_ms)
    if measured.set_aside > rounds / 2:
        return f"{measured.set_aside} of {rounds} rounds were disturbed"
    return None


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
