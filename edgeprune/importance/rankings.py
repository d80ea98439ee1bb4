"""The rankings of an opened model's groups, computed once for every model and its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from edgeprune.calibration import ArrayCache, Arrays, Calibration
from edgeprune.dependency import OpenedModel, Ranking
from edgeprune.importance.ranking import rank
from edgeprune.importance.reader_refits import ReaderRefits
from edgeprune.recovery import Moments
from edgeprune.support import Progress

STEP = 8
"""Units that are removed at a time: no device is faster with fewer."""


def rankings_of(
    opened: OpenedModel,
    data: Calibration,
    known: ArrayCache,
    seed: int,
    shared: dict[str, Moments] | None = None,
    refits: dict[str, ReaderRefits] | None = None,
    criterion: str = "obs",
) -> dict[str, Ranking]:
    """Group id -> ranking, from the cache if it has been computed before.

    ``shared`` keeps the covariances that were gathered for later calls, and ``refits`` those of the groups' readers.
    """

    def compute() -> Arrays:
        made = rank(criterion, opened.dense, opened.analysis, data, STEP, seed, shared, refits)
        return {f"{g} {part}": getattr(r, part) for g, r in made.items() for part in ("order", "loss")}

    found = known.arrays("ranking", {"criterion": criterion, "step": STEP, "seed": seed}, compute)
    return {g.id: Ranking(found[f"{g.id} order"], found[f"{g.id} loss"]) for g in opened.analysis.groups}


@dataclass(frozen=True, eq=False)
class LateRankings(Mapping[str, Ranking]):
    """Group id -> ranking, computed at first use: a compile that cuts nothing needs none.

    Attributes:
        opened, data, known, seed: the arguments of `rankings_of`.
        progress: shows that units are ranked.
        shared: keeps covariances for later calls; None to keep none.
    """

    opened: OpenedModel
    data: Calibration
    known: ArrayCache
    seed: int
    progress: Progress
    shared: dict[str, Moments] | None = None
    _refits: dict[str, ReaderRefits] = field(default_factory=dict)

    @cached_property
    def _made(self) -> dict[str, Ranking]:
        with self.progress.step("ranking units"):
            return rankings_of(self.opened, self.data, self.known, self.seed, self.shared, self._refits)

    def refits(self) -> dict[str, ReaderRefits]:
        """Group id -> refits of its readers at a few widths; ranks again if the rankings came from the cache."""
        if self._made and not self._refits:
            with self.progress.step("ranking units"):
                opened = self.opened
                rank("obs", opened.dense, opened.analysis, self.data, STEP, self.seed, self.shared, self._refits)
        return self._refits

    def clear(self) -> None:
        """Give up what only the pricing of widths reads, for it is large; the rankings stay."""
        self._refits.clear()

    def __getitem__(self, group: str) -> Ranking:
        """A group's ranking."""
        return self._made[group]

    def __iter__(self) -> Iterator[str]:
        """Ids of all groups."""
        return iter(self._made)

    def __len__(self) -> int:
        """Number of groups."""
        return len(self._made)
