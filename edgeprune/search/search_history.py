"""What a search for one budget leaves to the next of the same model: how losses add up, and how far times are off.

Both belong to the network and not to the budget, as long as that is not very different: the factors of the losses were
found by trying whole choices (`edgeprune.search.loss_scales`), and how much longer cut networks take than the latency
model says, against uncut ones, was measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.calibration import ArrayCache
from edgeprune.search.problem import Problem

NEAR = 1.3
"""Speed-ups that differ by no more than this factor have found the same."""


@dataclass(frozen=True, eq=False)
class SearchHistory:
    """What one search found.

    Attributes:
        speedup: that was asked for, against the original.
        factors: of the losses of every group and then of every block.
        slowdown: measured over predicted time of what was chosen, over the same of the best uncut network.
    """

    speedup: float
    factors: NDArray[np.float64]
    slowdown: float

    def serves(self, problem: Problem, speedup: float) -> bool:
        """Whether another search for this speed-up may rely on it."""
        fits = len(self.factors) == len(problem.levels) + len(problem.format_loss)
        return fits and abs(math.log(speedup / self.speedup)) <= math.log(NEAR)


def load_history(known: ArrayCache, settings: object) -> SearchHistory | None:
    """What the last search under these settings left, if anything."""
    found = known.find("experience", settings)
    if found is None:
        return None
    speedup, slowdown = (float(x) for x in found["numbers"])
    return SearchHistory(speedup, found["factors"], slowdown)


def save_history(known: ArrayCache, settings: object, made: SearchHistory) -> None:
    """Leave it to the next search."""
    known.keep("experience", settings, {"numbers": np.array([made.speedup, made.slowdown]), "factors": made.factors})
