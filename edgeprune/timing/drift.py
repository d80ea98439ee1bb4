"""Was the machine itself while it was measured? Throttled clocks and busy neighbours, read off the measurements.

The original model is the same work today as ever, so what its blocks do over time is what the machine does. Three
things make a latency no ground for a verdict:

* the blocks drift: they grow or shrink steadily while measured, by more than chance (Mann and Whitney 1947) and enough
  to matter, as they do while a processor heats up and its clock goes down;
* the machine had several speeds: original and result, measured in turns, become faster and slower together (their
  blocks are correlated), and in some round both were well below their medians, as when a hot processor recovers;
* others had the machine for much of the time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, correlation, median

from edgeprune.timing.protocol import Measurement

MATTERS = 0.05
"""Drift, as a fraction, below which a latency is still told well enough to hold it against a limit."""

CHANCE = 0.01
"""How often blocks without a drift may be taken for drifting."""

DENIED = 0.2
"""Share of the time without the processor above which even its own clock says little: the caches were others' too."""


def disturbance(baseline: Measurement, result: Measurement) -> str | None:
    """Why latencies measured in this run say little, as half a sentence; None where they stand."""
    for name, measured in (("original", baseline), ("result", result)):
        if abs(drift := _drift(measured.blocks_ms)) > MATTERS:
            how = "slower" if drift > 0 else "faster"
            return f"the {name} became {abs(drift):.0%} {how} while it was measured, as under a changing clock"
        if (busy := _busy(measured)) is not None:
            return f"{busy} while the {name} was measured"
    if (faster := _faster_together(baseline.blocks_ms, result.blocks_ms)) > MATTERS:
        return f"the machine was at times {faster:.0%} faster, for original and result alike, as under a changing clock"
    return None


def _busy(measured: Measurement) -> str | None:
    if measured.denied > DENIED:
        return f"others had the processor {measured.denied:.0%} of the time"
    rounds = measured.set_aside + len(measured.blocks_ms)
    if measured.set_aside > rounds / 2:
        return f"{measured.set_aside} of {rounds} rounds were disturbed"
    return None


def _drift(blocks_ms: Sequence[float]) -> float:
    """How much the last third of the blocks is above the first, as a fraction; 0 where that may be chance."""
    third = len(blocks_ms) // 3
    if third < 2:
        return 0.0
    first, last = blocks_ms[:third], blocks_ms[-third:]
    return median(last) / median(first) - 1 if _chance(first, last) < CHANCE else 0.0


def _faster_together(a_ms: Sequence[float], b_ms: Sequence[float]) -> float:
    """How much faster than usual both of two series were in the round that was best for both; 0 if that may be chance.

    Noise of their own makes them that at different times, a clock at the same.
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
    """Two-sided probability that two samples of one distribution are as far apart in rank as these (Mann-Whitney)."""
    wins = sum((y > x) + 0.5 * (y == x) for x in a for y in b)
    n, m = len(a), len(b)
    if n + m <= 12:  # exact where all of one are beyond all of the other; anything less is no sign in so few
        return 2 / math.comb(n + m, n) if wins in (0.0, float(n * m)) else 1.0
    z = (abs(wins - n * m / 2) - 0.5) / math.sqrt(n * m * (n + m + 1) / 12)
    return 2 * (1 - NormalDist().cdf(z))
