"""What a score is made of, sample by sample: the number of samples, and how sure the score and its drop are."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeprune.errors import EvaluationError
from edgeprune.outputs import agreement_interval, jackknife_interval, mean_interval, paired_interval, value_range
from edgeprune.support import describe_failure

GROUPS = 20
"""The jackknife combines the samples so many times, each time without one group of them."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Score:
    """One number, higher is better; nothing is known of its samples.

    Attributes:
        value: the number.
    """

    value: float

    @property
    def samples(self) -> int | None:
        """Their number, if it is known."""
        return None

    def interval(self) -> Interval | None:
        """In which the value lies on other samples of the same kind, at 95%."""
        return None

    def drop_interval(self, after: Score) -> Interval | None:
        """In which the drop to the score of another model on the same samples lies, at 95%."""
        return None


@dataclass(frozen=True)
class MeanScore(Score):
    """A mean over samples.

    Attributes:
        values: of each sample.
        weights: of the samples in the mean; equal if there are none.
    """

    values: tuple[float, ...]
    weights: tuple[float, ...] = ()

    @property
    def samples(self) -> int:
        """Their number."""
        return len(self.values)

    def interval(self) -> Interval | None:
        """From the scatter of the values."""
        return mean_interval(self.values, self.weights)

    def drop_interval(self, after: Score) -> Interval | None:
        """From the scatter of the differences, sample by sample."""
        if not isinstance(after, MeanScore) or len(after.values) != len(self.values):
            return None
        return paired_interval(self.values, after.values, self.weights)


@dataclass(frozen=True)
class HitScore(MeanScore):
    """Percent of labels that are met; the values are those of each sample, from 0 to 100."""

    def interval(self) -> Interval | None:
        """Wilson's interval of a percentage."""
        return agreement_interval(self.value, self.values)


@dataclass(frozen=True)
class CombinedScore(Score):
    """What a user's function makes of the parts that its samples contribute, such as a mean average precision.

    Attributes:
        without: the number without one group of samples, for each group.
        parts: how many samples there are.
    """

    without: tuple[float, ...]
    parts: int

    @property
    def samples(self) -> int:
        """Their number."""
        return self.parts

    def interval(self) -> Interval | None:
        """By the jackknife."""
        return jackknife_interval(self.value, self.without, self.parts, abs(self.value))

    def drop_interval(self, after: Score) -> Interval | None:
        """By the jackknife of the difference."""
        if not isinstance(after, CombinedScore) or after.parts != self.parts:
            return None
        drops = [before - now for before, now in zip(self.without, after.without, strict=True)]
        whole = value_range([self.value, after.value])
        return jackknife_interval(self.value - after.value, drops, self.parts, max(whole, abs(self.value)))


def score_of(returned: Any, spec: str) -> Score:
    """The score of what a user's function returns.

    Args:
        returned: a number; or a list of numbers, one for each sample, whose mean is the score; or pairs of a number
            and its weight in the mean; or ``(parts, combine)``: what each sample contributes, in any form, and the
            function that makes the number of a list of them.
        spec: the function, for errors.

    Raises:
        EvaluationError: it is none of these, or a number is not finite.
    """
    if isinstance(returned, tuple) and len(returned) == 2 and callable(returned[1]):
        return _combined(returned[0], returned[1], spec)
    try:
        if isinstance(returned, tuple):  # two metrics, not two samples
            raise TypeError
        numbers = np.asarray(float(returned) if np.ndim(returned) == 0 else returned, np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(
            f"{spec} returns a {type(returned).__name__}, not a number or a list of one number for each sample"
        ) from None
    if numbers.ndim == 0 or (numbers.size == 1 and not isinstance(returned, list)):
        return Score(_finite(float(numbers.reshape(())), spec))
    if numbers.ndim > 2 or not len(numbers) or (numbers.ndim == 2 and numbers.shape[1] != 2):
        shape = "x".join(map(str, numbers.shape))
        raise EvaluationError(
            f"{spec} returns numbers of shape {shape}: give one for each sample, or for each a number and its weight"
        )
    for number in numbers.reshape(-1):
        _finite(float(number), spec)
    if numbers.ndim == 1:
        return MeanScore(float(numbers.mean()), tuple(numbers.tolist()))
    values, weights = numbers.T
    if weights.min() < 0 or not weights.sum():
        raise EvaluationError(f"{spec} returns weights that are negative or add up to nothing")
    return MeanScore(float(values @ weights / weights.sum()), tuple(values.tolist()), tuple(weights.tolist()))


def _combined(parts: Any, combine: Callable[[list[Any]], Any], spec: str) -> Score:
    given: Sequence[Any] = list(parts)
    if not given:
        raise EvaluationError(f"{spec} returns no samples")
    order = list(range(len(given)))
    random.Random(0).shuffle(order)  # the same groups for every model; neighbours are often alike
    groups = min(GROUPS, len(given))

    def without(group: int) -> list[Any]:
        return [part for part, place in zip(given, order, strict=True) if place % groups != group]

    def number(chosen: list[Any]) -> float:
        try:
            return _finite(float(combine(chosen)), spec)
        except EvaluationError:
            raise
        except Exception as error:
            raise EvaluationError(f"{spec}: its second function fails: {describe_failure(error)}") from error

    whole = number(list(given))
    if groups < 2:
        return Score(whole)
    return CombinedScore(whole, tuple(number(without(group)) for group in range(groups)), len(given))


def _finite(number: float, spec: str) -> float:
    if not math.isfinite(number):
        raise EvaluationError(f"{spec} returns {number}, not a finite number")
    return number
