"""Trials of token schedules: the time and the output error of each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from edgeprune.calibration import Arrays
from edgeprune.dependency import OpenedModel
from edgeprune.errors import PassError
from edgeprune.passes.tokens import Site
from edgeprune.tokens.schedule import TokenSchedule, with_fewer_tokens

PAYS = 0.97
"""A schedule is worth its loss only if it leaves at most this share of the time."""


@dataclass(frozen=True, eq=False)
class TokenTrial:
    """A schedule that was tried.

    Attributes:
        schedule: what leaves: tokens, or channels of the residual stream (`edgeprune.tokens.narrowing`).
        opened: the model after it.
        share: its time over that of the model with all tokens.
        error: its output error.
    """

    schedule: Hashable
    opened: OpenedModel
    share: float
    error: float


def try_schedules(
    opened: OpenedModel,
    sites: Sequence[Site],
    wanted: Sequence[TokenSchedule],
    shares: Callable[[Sequence[ir.Model], Sequence[TokenSchedule]], Sequence[float]],
    error: Callable[[ir.Model], float],
    progress: Callable[[float], None],
    remember: Callable[[Callable[[], Arrays]], Arrays] = lambda compute: compute(),
) -> tuple[list[TokenTrial], float]:
    """Try schedules; those that save too little time are not run on samples.

    Args:
        opened: with all tokens.
        sites: of its dense model.
        wanted: schedules to try.
        shares: the times of models with fixed shapes and these schedules, over that of the model with all tokens.
        error: the output error of a model.
        progress: called with the fraction done.
        remember: gives the stored results of these trials, or computes and stores them.

    Returns:
        The trials of which none is both slower and worse than another, the fastest first; and the smallest share of
        time that was found, also if it does not pay.
    """
    made: dict[int, OpenedModel] = {}

    def compute() -> Arrays:
        """Time and error of every schedule; NaN if it is not possible, or does not pay."""
        times, errors = np.full(len(wanted), np.nan), np.full(len(wanted), np.nan)
        for k, schedule in enumerate(wanted):
            # A Reshape or a bound may be beyond repair: then this schedule is not possible.
            with contextlib.suppress(PassError):
                made[k] = with_fewer_tokens(opened, schedule, sites)
            progress((k + 1) / len(wanted) / 3)
        times[list(made)] = shares([reduced.fixed for reduced in made.values()], [wanted[k] for k in made])
        progress(2 / 3)
        paying = np.flatnonzero(times <= PAYS).tolist()
        for done, k in enumerate(paying, 1):
            errors[k] = error(made[k].dense)
            progress((2 + done / len(paying)) / 3)
        return {"times": times, "errors": errors}

    found = remember(compute)
    times, errors = found["times"], found["errors"]
    trials = [
        TokenTrial(
            wanted[k], made.get(k) or with_fewer_tokens(opened, wanted[k], sites), float(times[k]), float(errors[k])
        )
        for k in frontier(times, errors)
    ]
    return trials, float(min(times[~np.isnan(times)], default=1.0))


def frontier(times: NDArray[np.float64], errors: NDArray[np.float64]) -> list[int]:
    """Numbers of the schedules than which no other is both faster and better, the fastest first."""
    found: list[int] = []
    tried = np.flatnonzero(~np.isnan(errors)).tolist()
    for k in sorted(tried, key=lambda k: (times[k], errors[k])):
        if not found or errors[k] < errors[found[-1]]:
            found.append(k)
    return found
