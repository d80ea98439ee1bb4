"""The best that there is without cutting anything: what a compressed model has to beat."""

from __future__ import annotations

from collections.abc import Callable
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
    total = sum(max(losses.values(), default=0.0) for losses in problem.format_loss)
    tried: set[tuple[str, ...]] = set()
    for cap in CAPS:
        choice = fastest_unpruned(_capped(problem, cap * total))
        if choice.formats in tried or not any(f.startswith("int8") for f in choice.formats):
            continue
        tried.add(choice.formats)
        if drop(choice) <= limit:
            return choice
    return None


def _capped(problem: Problem, cap: float) -> Problem:
    """Dense widths, and only formats that cost no more than ``cap``."""
    return replace(
        problem,
        levels=tuple(v[-1:] for v in problem.levels),
        width_loss=tuple(np.zeros(1) for _ in problem.levels),
        format_loss=tuple({f: v for f, v in losses.items() if v <= cap} for losses in problem.format_loss),
    )
