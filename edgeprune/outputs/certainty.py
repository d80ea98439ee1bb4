"""How sure a score is, from its values on single samples: 95% intervals, and how many samples would tell a point.

Agreements in percent have a Wilson interval (Wilson 1927), which also says something when all samples agree: 8 of 8 is
67.6 to 100%. If a sample is itself an average, as over pixels, the samples scatter less than hits and misses; the
interval then counts as many samples as scatter so little. Noise in dB scatters by a factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeprune.outputs.judging import points
from edgeprune.report import OutputScore

Z95 = 1.959964
"""Half the width of the normal distribution's central 95%, in standard deviations."""

_FEWEST = 6
"""With fewer samples their own scatter is not trusted."""

Interval = tuple[float, float]


def agreement_interval(percent: float, each: Sequence[float]) -> Interval | None:
    """The 95% interval of an agreement in percent; None without samples.

    Args:
        percent: over all samples.
        each: of every sample alone, percent.
    """
    n, share = float(len(each)), min(max(percent / 100, 0.0), 1.0)
    if not each:
        return None
    z = Z95
    if n >= _FEWEST and 0 < (scatter := _variance(each) / 1e4) < share * (1 - share):
        n, z = n * share * (1 - share) / scatter, _t95(len(each) - 1)
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    return 100 * min(share, max(0.0, middle - half)), 100 * max(share, min(1.0, middle + half))


def noise_interval(db: float, each: Sequence[float]) -> Interval | None:
    """The 95% interval of a signal-to-noise ratio, dB; None with fewer than two samples.

    Args:
        db: over all samples.
        each: of every sample alone, dB.
    """
    if len(each) < 2:
        return None
    noise = [points("dB", value) for value in each]
    mean = sum(noise) / len(noise)
    if mean <= 0:
        return db, db
    relative = math.sqrt(_variance(noise) / len(noise)) / mean
    decibels = 10 * math.log10(math.e) * _t95(len(each) - 1) * relative  # e ** x as dB
    return db - decibels, db + decibels


def score_interval(score: OutputScore, each: Sequence[float]) -> Interval | None:
    """The 95% interval of the score of an output, in its unit; ``each`` is the same score of every sample alone."""
    return (noise_interval if score.unit == "dB" else agreement_interval)(score.after, each)


def paired_interval(before: Sequence[float], after: Sequence[float], weights: Sequence[float] = ()) -> Interval | None:
    """The 95% interval of the drop of a mean over the same samples; None without samples.

    Two samples are added, as Agresti & Min (2005, adjusted Wald) add them for hits and misses, where this is their
    interval: half a sample is lost, half a sample is won, and one stays as it is. So no difference in a few samples is
    no certainty. A sample loses as much as the one that changed most; if none did, the range of the values.

    Args:
        before: the value of each sample; hits are 100, misses 0.
        after: the same of another model.
        weights: of the samples in the mean; equal if there are none.
    """
    if not before:
        return None
    average = sum(weights) / len(weights) if weights else 1.0
    shares = [weight / average for weight in weights] or [1.0] * len(before)
    drops = [(b - a) * share for b, a, share in zip(before, after, shares, strict=True)]
    n, whole = len(drops) + 2, max(abs(b - a) for b, a in zip(before, after, strict=True))
    whole = whole or value_range(before)
    if weights:  # the weight of what is lost is as uncertain as the loss: the scatter about the mean, as of a ratio
        mean = sum(drops) / len(drops)
        drops = [drop - mean * (share - 1) for drop, share in zip(drops, shares, strict=True)]
    mean = sum(drops) / n
    squares = sum(drop * drop for drop in drops) + whole * whole
    half = Z95 * math.sqrt(max(0.0, squares / n - mean * mean) / n)
    return mean - half, mean + half


def mean_interval(values: Sequence[float], weights: Sequence[float] = ()) -> Interval | None:
    """The 95% interval of a mean over samples; None without samples.

    Four samples are added, as Agresti & Coull (1998) add them for hits and misses: two at either end of what is known.

    Args:
        values: of each sample, in any unit.
        weights: of the samples in the mean; equal if there are none.
    """
    if not values:
        return None
    average = sum(weights) / len(weights) if weights else 1.0
    shares = [weight / average for weight in weights] or [1.0] * len(values)
    mean = sum(v * share for v, share in zip(values, shares, strict=True)) / len(values)
    high = max(values)
    low = high - value_range(values)
    around = [mean + (v - mean) * share for v, share in zip(values, shares, strict=True)]
    around += [low, low, high, high]
    middle = sum(around) / len(around)
    half = Z95 * math.sqrt(sum((v - middle) ** 2 for v in around)) / len(around)
    return max(low, middle - half), min(high, middle + half)


def value_range(values: Sequence[float]) -> float:
    """What a sample can lose, as far as it is known: the range of the values, or their size if they are all alike."""
    return max(values) - min(values) or abs(max(values))


def jackknife_interval(score: float, without: Sequence[float], samples: int, whole: float) -> Interval | None:
    """The 95% interval of any smooth statistic of samples, by the jackknife over groups; None with one group.

    As for `paired_interval`, half a sample that is lost and half a sample that is won are added.

    Args:
        score: of all samples.
        without: of all samples but those of one group, for each group.
        samples: their number.
        whole: the largest loss that is possible.
    """
    k = len(without)
    if k < 2:
        return None
    mean = sum(without) / k
    variance = (k - 1) / k * sum((value - mean) ** 2 for value in without)
    half = math.hypot(_t95(k - 1) * math.sqrt(variance), Z95 * whole / (samples + 2))
    return score - half, score + half


def samples_for_a_point(samples: int, unseen_points: float, clean: bool) -> int:
    """How many samples would tell a drop of one point, if so many cannot tell one of ``unseen_points``.

    Args:
        samples: their number.
        unseen_points: from the drop to the upper bound of its interval.
        clean: whether nothing was lost: the interval then shrinks with the number of samples, else with its root.
    """
    enough = Z95**2 * 99 if clean else samples * unseen_points**2
    return 10 * math.ceil(enough / 10)


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def _t95(degrees: int) -> float:
    """Student's 97.5% quantile (Abramowitz & Stegun 26.7.5); within 1% from 4 degrees of freedom on."""
    z = Z95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3
