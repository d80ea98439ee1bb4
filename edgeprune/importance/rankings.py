"""The order in which the units of a job's groups go, computed once for every model and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from edgeprune.calibration import ArrayCache, Arrays, Calibration
from edgeprune.dependency import OpenedModel, Ranking
from edgeprune.importance import rank
from edgeprune.recovery import Moments
from edgeprune.support import Progress

STEP = 8
"""Units that are removed at a time: no device gains by less."""


def rankings_of(
    opened: OpenedModel,
    data: Calibration,
    known: ArrayCache,
    seed: int,
    shared: dict[str, Moments] | None = None,
    criterion: str = "obs",
) -> dict[str, Ranking]:
    """Group id -> ranking; read back where it has been made before.

    ``shared`` keeps covariances, where they had to be gathered, for who asks next.
    """

    def compute() -> Arrays:
        made = rank(criterion, opened.dense, opened.analysis, data, STEP, seed, shared)
        return {f"{g} {part}": getattr(r, part) for g, r in made.items() for part in ("order", "loss")}

    found = known.arrays("ranking", {"criterion": criterion, "step": STEP, "seed": seed}, compute)
    return {g.id: Ranking(found[f"{g.id} order"], found[f"{g.id} loss"]) for g in opened.analysis.groups}


@dataclass(frozen=True, eq=False)
class LateRankings(Mapping[str, Ranking]):
    """Group id -> ranking, made when one is first asked for: a compile that cuts nothing needs none.

    Attributes:
        job, data, known, seed: of `rankings_of`.
        progress: told of it.
        shared: keeps covariances for who asks next.
    """

    opened: OpenedModel
    data: Calibration
    known: ArrayCache
    seed: int
    progress: Progress
    shared: dict[str, Moments] = field(default_factory=dict)

    @cached_property
    def _made(self) -> dict[str, Ranking]:
        with self.progress.step("ranking units"):
            return rankings_of(self.opened, self.data, self.known, self.seed, self.shared)

    def __getitem__(self, group: str) -> Ranking:
        """A group's ranking."""
        return self._made[group]

    def __iter__(self) -> Iterator[str]:
        """Ids of all groups."""
        return iter(self._made)

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._made)
