"""Trials of token schedules: the time and the output error of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

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
        schedule: what leaves.
        opened: the model after it.
        share: its time over that of the model with all tokens.
        error: its output error.
    """

    schedule: TokenSchedule
    opened: OpenedModel
    share: float
    error: float


def try_schedules(
    opened: OpenedModel,
    sites: Sequence[Site],
    wanted: Sequence[TokenSchedule],
    shares: Callable[[Sequence[ir.Model]], Sequence[float]],
    error: Callable[[ir.Model], float],
    progress: Callable[[float], None],
) -> tuple[list[TokenTrial], float]:
    """Try schedules; those that save too little time are not run on samples.

    Args:
        opened: with all tokens.
        sites: of its dense model.
        wanted: schedules to try.
        shares: the times of models with fixed shapes, over that of the model with all tokens.
        error: the output error of a model.
        progress: called with the fraction done.

    Returns:
        The trials of which none is both slower and worse than another, the fastest first; and the smallest share of
        time that was found, also if it does not pay.
    """
    made: list[tuple[TokenSchedule, OpenedModel]] = []
    for k, schedule in enumerate(wanted):
        try:
            made.append((schedule, with_fewer_tokens(opened, schedule, sites)))
        except PassError:
            continue  # a Reshape or a bound that cannot be repaired: this schedule is not possible
        progress((k + 1) / len(wanted) / 3)
    times = shares([reduced.fixed for _, reduced in made])
    progress(2 / 3)
    paying = [(s, o, t) for (s, o), t in zip(made, times, strict=True) if t <= PAYS]
    tried: list[TokenTrial] = []
    for k, (schedule, reduced, share) in enumerate(paying):
        tried.append(TokenTrial(schedule, reduced, share, error(reduced.dense)))
        progress((2 + (k + 1) / len(paying)) / 3)
    return _frontier(tried), min(times, default=1.0)


def _frontier(tried: Sequence[TokenTrial]) -> list[TokenTrial]:
    """Those than which no other is both faster and better, the fastest first."""
    found: list[TokenTrial] = []
    for trial in sorted(tried, key=lambda t: (t.share, t.error)):
        if not found or trial.error < found[-1].error:
            found.append(trial)
    return found
