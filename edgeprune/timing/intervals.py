"""How sure a median is: distribution-free intervals that also hold where neighbouring values are alike."""

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

    Distribution-free: the bounds are order statistics, whose coverage follows from the binomial distribution (David &
    Nagaraja 2003, section 7.1). Correlation between neighbours, as drift makes it, lowers the number of values that
    the ranks are chosen for to n (1 - r) / (1 + r), r being the rank correlation at lag 1. Where fewer than six
    values are left in effect, the extremes cover less than 95%, and their distance from the median is stretched as it
    would be for normally distributed values.
    """
    n = len(values)
    effective = max(2, math.floor(n * (1 - (r := _lag1_rank_correlation(values))) / (1 + r)))
    trimmed = max(0, math.floor((_trimmed_each_side(effective) + 1) * (n + 1) / (effective + 1)) - 1)
    ordered = sorted(values)
    middle, low, high = median(ordered), ordered[trimmed], ordered[n - 1 - trimmed]
    stretch = max(1.0, sigmas(CONFIDENCE) / sigmas(1 - 2 * 0.5**effective))
    return Interval(middle, middle - stretch * (middle - low), middle + stretch * (high - middle))


def sigmas(coverage: float) -> float:
    """Half width of the central interval of the normal distribution with this coverage, in standard deviations."""
    return NormalDist().inv_cdf(0.5 + min(coverage, CONFIDENCE) / 2)


def _trimmed_each_side(n: int) -> int:
    """Largest k for which leaving out the k smallest and k largest of n values still covers the median with 95%."""
    k, below = 0, 1 + n  # `below` of the 2^n sign patterns have at most k + 1 values under the median
    while 2 * below <= (1 - CONFIDENCE) * 2**n:
        k += 1
        below += math.comb(n, k + 1)
    return k


def _lag1_rank_correlation(values: Sequence[float]) -> float:
    """Correlation of neighbours' ranks, 0 to 0.98; negative ones count as none, ranks resist outliers."""
    n = len(values)
    if n < 4:
        return 0.0
    ordered = sorted(values)
    rank = [(bisect_left(ordered, v) + bisect_right(ordered, v) - n) / 2 for v in values]  # ties share one; mean 0
    spread = sum(r * r for r in rank)
    if spread == 0:
        return 0.0
    return min(0.98, max(0.0, sum(a * b for a, b in pairwise(rank)) / spread))
