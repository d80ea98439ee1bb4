"""The best that there is without cutting anything: what a compressed model has to beat."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from edgeprune.search import Choice, Problem, fastest_unpruned

CAPS = (1.0, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Largest share of the summed loss that a single block may have and still be put on integers, from bold to careful."""


def best_unpruned(problem: Problem, drop: Callable[[Choice], float], limit: float) -> Choice | None:
    """Dense widths in the fastest formats that cost no more than ``limit`` points; None if float is all there is.

    Args:
        problem: with the losses of all formats.
        drop: points that a choice loses, measured.
        limit: in points.
    """
    return next((choice for choice in _integer_variants(problem) if drop(choice) <= limit), None)


def mildest_unpruned(problem: Problem, drop: Callable[[Choice], float]) -> Choice | None:
    """Dense widths with blocks on integers such that the fewest points are lost; None if float is all there is."""
    return min(_integer_variants(problem), key=drop, default=None)


def _integer_variants(problem: Problem) -> Iterator[Choice]:
    """The fastest formats from bold to careful, those with integers, each once."""
    total = sum(max(losses.values(), default=0.0) for losses in problem.format_loss)
    seen: set[tuple[str, ...]] = set()
    for cap in CAPS:
        choice = fastest_unpruned(_capped(problem, cap * total))
        if choice.formats not in seen and any(f.startswith("int8") for f in choice.formats):
            seen.add(choice.formats)
            yield choice


def _capped(problem: Problem, cap: float) -> Problem:
    """Dense widths, and only formats that cost no more than ``cap``."""
    return replace(
        problem,
        levels=tuple(v[-1:] for v in problem.levels),
        width_loss=tuple(np.zeros(1) for _ in problem.levels),
        format_loss=tuple({f: v for f, v in losses.items() if v <= cap} for losses in problem.format_loss),
    )
