"""The best candidates that cut nothing: a compressed model must be faster than these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgeprune.latency import INT8
from edgeprune.search.format_race import Raced
from edgeprune.search.solver import Candidate, Problem, fastest_unpruned

CAPS = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Largest share of the total loss that a block in INT8 may have: from many blocks in INT8 to few."""


def best_unpruned(
    problem: Problem, is_accurate: Callable[[Candidate], bool], raced: Sequence[Raced] = ()
) -> Candidate | None:
    """Dense widths in the fastest formats with INT8 that are accurate enough; None if there are none.

    Args:
        problem: with the losses of all formats.
        is_accurate: whether the measured loss of accuracy of a candidate is within the limit.
        raced: candidates whose latency was measured, the fastest first; a measurement counts more than a prediction.
    """
    best, rest = None, list(_int8_variants(problem, raced))
    if rest and is_accurate(rest[0]):
        return rest[0]
    rest = rest[1:]
    while rest:  # by bisection: fewer blocks in INT8 lose less
        middle = (len(rest) - 1) // 2
        if is_accurate(rest[middle]):
            best, rest = rest[middle], rest[:middle]
        else:
            rest = rest[middle + 1 :]
    return best


def most_accurate_unpruned(problem: Problem, drop: Callable[[Candidate], float]) -> Candidate | None:
    """Dense widths with blocks in INT8 that lose the fewest points; None if no block can run in INT8."""
    return min(_int8_variants(problem), key=drop, default=None)


def all_int8(problem: Problem, candidate: Candidate) -> Candidate:
    """A candidate with INT8 in every block that has a form in it."""
    blocks = zip(candidate.formats, problem.format_loss, strict=True)
    formats = tuple(INT8 if INT8 in losses else f for f, losses in blocks)
    return replace(candidate, formats=formats, latency_us=problem.latency.total_us(candidate.widths, formats))


def _int8_variants(problem: Problem, raced: Sequence[Raced] = ()) -> Iterator[Candidate]:
    """The fastest formats under each cap, without duplicates and without those that are all float."""
    total = sum(max(losses.values(), default=0.0) for losses in problem.format_loss)
    seen: set[tuple[str, ...]] = set()
    for cap in CAPS:
        candidate = _measured(fastest_unpruned(_capped(problem, cap * total)), problem, cap * total, raced)
        if candidate.formats not in seen and any(f.startswith("int8") for f in candidate.formats):
            seen.add(candidate.formats)
            yield candidate


def _measured(candidate: Candidate, problem: Problem, cap: float, raced: Sequence[Raced]) -> Candidate:
    """The candidate, or one that was faster in a race and whose loss is under the cap in every block too."""
    for other in raced:
        losses = (of[f] for of, f in zip(problem.format_loss, other.candidate.formats, strict=True))
        if other.candidate.formats == candidate.formats:
            return candidate
        if any(r.candidate.formats == candidate.formats for r in raced) and all(loss <= cap for loss in losses):
            return other.candidate
    return candidate


def _capped(problem: Problem, cap: float) -> Problem:
    """Dense widths, and only formats whose loss is at most ``cap``."""
    return replace(
        problem,
        levels=tuple(v[-1:] for v in problem.levels),
        width_loss=tuple(np.zeros(1) for _ in problem.levels),
        format_loss=tuple({f: v for f, v in losses.items() if v <= cap} for losses in problem.format_loss),
    )
