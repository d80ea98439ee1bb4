"""The order in which the units of a job's groups go, computed once for every model and its data."""

from __future__ import annotations

from edgeprune.arraycache import ArrayCache, Arrays
from edgeprune.calibrate import Calibration
from edgeprune.groups import Ranking
from edgeprune.importance import rank
from edgeprune.job import Job
from edgeprune.ridge import Moments

STEP = 8
"""Units that are removed at a time: no device gains by less."""


def rankings_of(
    job: Job,
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
        made = rank(criterion, job.dense, job.analysis, data, STEP, seed, shared)
        return {f"{g} {part}": getattr(r, part) for g, r in made.items() for part in ("order", "loss")}

    found = known.arrays("ranking", {"criterion": criterion, "step": STEP, "seed": seed}, compute)
    return {g.id: Ranking(found[f"{g.id} order"], found[f"{g.id} loss"]) for g in job.analysis.groups}
