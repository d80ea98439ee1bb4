"""The fastest choice that is still good enough, where accuracy is the limit and not time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeprune.errors import BudgetError
from edgeprune.search.solver import Candidate, Problem, Searcher
from edgeprune.support import Progress

BISECTIONS = 5
CLOSE_ENOUGH = 1.02


def least_latency(
    problem: Problem, start: Candidate, acceptable: Callable[[Candidate], bool], progress: Progress
) -> Candidate:
    """The fastest acceptable choice found by bisection on the budget; ``start`` where none is faster.

    Args:
        problem: what there is to choose from.
        start: an acceptable choice, with its time by the problem's latency model.
        acceptable: builds a choice and tells whether it loses little enough.
        progress: told of every try.
    """
    searcher = Searcher(problem)
    best, slow_us, fast_us = start, start.latency_us, searcher.fastest().latency_us
    for _ in range(BISECTIONS):
        if slow_us < CLOSE_ENOUGH * fast_us:
            break
        middle_us = float(np.sqrt(slow_us * fast_us))
        with progress.step("trying a faster network"):
            try:
                candidate = searcher.search(middle_us)
            except BudgetError:
                fast_us = middle_us
                continue
            good = acceptable(candidate)
        if good:
            best, slow_us = candidate, middle_us
        else:
            fast_us = middle_us
    return best
