"""The 99th percentile of single runs: what a deadline is held to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

_SHARE, _SURE = 0.99, 0.95


@dataclass(frozen=True)
class Tail:
    """The slow end of single runs, milliseconds.

    Attributes:
        p99_ms: 99th percentile.
        low_ms: below which the true percentile lies with at most 5%, by order statistics; of few runs far below.
    """

    p99_ms: float
    low_ms: float


def tail_of(ordered_ms: Sequence[float]) -> Tail:
    """The tail of runs in ascending order, at least one."""
    n = len(ordered_ms)
    below = _SHARE * n - NormalDist().inv_cdf(_SURE) * math.sqrt(n * _SHARE * (1 - _SHARE))
    return Tail(ordered_ms[math.ceil(_SHARE * n) - 1], ordered_ms[max(0, math.floor(below) - 1)])
