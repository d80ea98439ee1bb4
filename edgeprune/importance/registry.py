"""The table of importance criteria: one decorated function for each, registered under the paper's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.dependency import Ranking
from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.importance.context import Context

RankFunction = Callable[["Context"], Mapping[str, Ranking]]


@dataclass(frozen=True)
class Criterion:
    """A criterion: its name, its source, whether it needs calibration data, and the function that ranks."""

    name: str
    source: str
    needs_data: bool
    rank: RankFunction


CRITERIA: dict[str, Criterion] = {}


def criterion(name: str, *, source: str, needs_data: bool) -> Callable[[RankFunction], RankFunction]:
    """Register a function that ranks all groups."""

    def register(function: RankFunction) -> RankFunction:
        CRITERIA[name] = Criterion(name, source, needs_data, function)
        return function

    return register


def find_criterion(name: str) -> Criterion:
    """The criterion of that name.

    Raises:
        UsageError: there is none; the message lists all criteria.
    """
    if name not in CRITERIA:
        raise UsageError(f"there is no criterion {name!r}; there are {', '.join(sorted(CRITERIA))}")
    return CRITERIA[name]
