"""Confidence intervals of a median: distribution-free, and valid for series whose neighbouring values correlate."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist, median

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median with the bounds of its confidence interval, in the unit of the values."""

    value: float
    low: float
    high: float


def median_interval(values: Sequence[float]) -> Interval:
    """Median and 95% interval of a series in order of time.

    The bounds are order statistics; their coverage follows from the binomial distribution (David & Nagaraja 2003,
    section 7.1). Drift makes neighbours correlate, which lowers the effective number of values to n (1 - r) / (1 + r),
    where r is the rank correlation at lag 1. With fewer than six effective values the extremes cover less than 95%;
    their distance from the median is then stretched as for normally distributed values.
    """
    n = len(values)
    effective = max(2, math.floor(n * (1 - (r := _lag1_rank_correlation(values))) / (1 + r)))
    trimmed = max(0, math.floor((_trimmed_each_side(effective) + 1) * (n + 1) / (effective + 1)) - 1)
    ordered = sorted(values)
    middle, low, high = median(ordered), ordered[trimmed], ordered[n - 1 - trimmed]
    stretch = max(1.0, sigmas(CONFIDENCE) / sigmas(1 - 2 * 0.5**effective))
    return Interval(middle, middle - stretch * (middle - low), middle + stretch * (high - middle))


def sigmas(coverage: float) -> float:
    """Half the width of the normal distribution's central interval with this coverage, in standard deviations."""
    return NormalDist().inv_cdf(0.5 + min(coverage, CONFIDENCE) / 2)


def _trimmed_each_side(n: int) -> int:
    """Largest k for which n values without the k smallest and k largest still cover the median with 95%."""
    k, below = 0, 1 + n  # `below` of the 2^n sign patterns have at most k + 1 values under the median
    while 2 * below <= (1 - CONFIDENCE) * 2**n:
        k += 1
        below += math.comb(n, k + 1)
    return k


def _lag1_rank_correlation(values: Sequence[float]) -> float:
    """Correlation of the ranks of neighbours, 0 to 0.98; a negative one counts as 0, and ranks resist outliers."""
    n = len(values)
    if n < 4:
        return 0.0
    ordered = sorted(values)
    rank = [(bisect_left(ordered, v) + bisect_right(ordered, v) - n) / 2 for v in values]  # ties share one; mean 0
    spread = sum(r * r for r in rank)
    if spread == 0:
        return 0.0
    return min(0.98, max(0.0, sum(a * b for a, b in pairwise(rank)) / spread))
