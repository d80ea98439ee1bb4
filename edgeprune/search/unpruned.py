"""The best that there is without cutting anything: what a compressed model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from edgeprune.search.format_race import Raced
from edgeprune.search.solver import Candidate, Problem, fastest_unpruned

CAPS = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Largest share of the summed loss that a single block may have and still be put on integers, from bold to careful."""


def best_unpruned(
    problem: Problem, drop: Callable[[Candidate], float], limit: float, raced: Sequence[Raced] = ()
) -> Candidate | None:
    """Dense widths in the fastest formats that cost no more than ``limit`` points; None if float is all there is.

    Args:
        problem: with the losses of all formats.
        drop: points that a choice loses, measured.
        limit: in points.
        raced: choices whose time was measured, the fastest first: what is measured counts more than what is predicted.
    """
    return next((candidate for candidate in _int8_variants(problem, raced) if drop(candidate) <= limit), None)


def mildest_unpruned(problem: Problem, drop: Callable[[Candidate], float]) -> Candidate | None:
    """Dense widths with blocks on integers such that the fewest points are lost; None if float is all there is."""
    return min(_int8_variants(problem), key=drop, default=None)


def _int8_variants(problem: Problem, raced: Sequence[Raced] = ()) -> Iterator[Candidate]:
    """The fastest formats from bold to careful, those with integers, each once."""
    total = sum(max(losses.values(), default=0.0) for losses in problem.format_loss)
    seen: set[tuple[str, ...]] = set()
    for cap in CAPS:
        candidate = _measured(fastest_unpruned(_capped(problem, cap * total)), problem, cap * total, raced)
        if candidate.formats not in seen and any(f.startswith("int8") for f in candidate.formats):
            seen.add(candidate.formats)
            yield candidate


def _measured(candidate: Candidate, problem: Problem, cap: float, raced: Sequence[Raced]) -> Candidate:
    """The choice, or one that has beaten it in a race and costs as little in every block."""
    for other in raced:
        losses = (of[f] for of, f in zip(problem.format_loss, other.candidate.formats, strict=True))
        if other.candidate.formats == candidate.formats:
            return candidate
        if any(r.candidate.formats == candidate.formats for r in raced) and all(loss <= cap for loss in losses):
            return other.candidate
    return candidate


def _capped(problem: Problem, cap: float) -> Problem:
    """Dense widths, and only formats that cost no more than ``cap``."""
    return replace(
        problem,
        levels=tuple(v[-1:] for v in problem.levels),
        width_loss=tuple(np.zeros(1) for _ in problem.levels),
        format_loss=tuple({f: v for f, v in losses.items() if v <= cap} for losses in problem.format_loss),
    )
