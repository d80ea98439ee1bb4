"""The fastest candidate that is still good enough, if accuracy is the limit and not latency."""

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
    """The fastest acceptable candidate that bisection on the budget finds; ``start`` if none is faster.

    Args:
        problem: the widths and formats to search.
        start: an acceptable candidate, with its latency by the problem's latency model.
        acceptable: builds a candidate and tells whether its loss is low enough.
        progress: shows every trial.
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
