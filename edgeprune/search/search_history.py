"""Results of one search that serve the next search for the same model: factors for losses, and a slowdown.

Both depend on the network, and hardly on the budget, as long as the budgets are not very different. The factors were
found by trying whole candidates (`edgeprune.search.loss_scales`). The slowdown was measured: it says how much more the
latency model underestimates cut networks than uncut ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import ArrayCache
from edgeprune.search.problem import Problem

NEAR = 1.3
"""The results of one search are valid for speed-ups that differ by at most this factor."""


@dataclass(frozen=True, eq=False)
class SearchHistory:
    """The results of one search.

    Attributes:
        speedup: the goal of that search, against the original.
        factors: for the losses of every group and then of every block, shape (groups + blocks,).
        slowdown: measured over predicted latency of its result, divided by the same ratio of the best uncut network.
    """

    speedup: float
    factors: NDArray[np.float64]
    slowdown: float

    def serves(self, problem: Problem, speedup: float) -> bool:
        """Whether a search for this speed-up can use it."""
        fits = len(self.factors) == len(problem.levels) + len(problem.format_loss)
        return fits and abs(math.log(speedup / self.speedup)) <= math.log(NEAR)


def load_history(cache: ArrayCache, settings: object) -> SearchHistory | None:
    """The results of the last search with these settings, if there was one."""
    found = cache.find("experience", settings)  # an earlier name, kept so that existing caches stay valid
    if found is None:
        return None
    speedup, slowdown = (float(x) for x in found["numbers"])
    return SearchHistory(speedup, found["factors"], slowdown)


def save_history(cache: ArrayCache, settings: object, made: SearchHistory) -> None:
    """Store the results for the next search."""
    cache.keep("experience", settings, {"numbers": np.array([made.speedup, made.slowdown]), "factors": made.factors})
