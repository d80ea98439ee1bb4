"""Run a sweep: what is not done yet, on this machine or on a cluster; then write its report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import BudgetError, ModelError
from edgeprune.support import Progress, check_temporary_room
from edgeprune.sweep.dask_workers import run_on_cluster
from edgeprune.sweep.grid import Grid
from edgeprune.sweep.local_workers import run_locally, worker_count
from edgeprune.sweep.run_job import Ended, known_end
from edgeprune.sweep.sweep_report import Done, write_summary


@dataclass(frozen=True)
class Sweep:
    """What a sweep gave: every job with its end, in the order of the grid."""

    done: tuple[Done, ...]
    folder: Path

    def raise_failures(self) -> None:
        """Raise ModelError if a compile failed otherwise than by its budget; the text has the first reason."""
        failed = [done for done in self.done if done.ended.code not in (0, BudgetError.exit_code)]
        if failed:
            first = failed[0]
            raise ModelError(
                f"{len(failed)} of {len(self.done)} compiles failed; {first.job.key}: {first.ended.sentence}"
            )


def run_sweep(
    grid: Grid,
    out: Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Sweep:
    """Run all compiles of a grid that have no result yet.

    Args:
        grid: the compiles.
        out: folder of the results; those of an earlier run of the same grid are kept.
        workers: compiles at a time on this machine; by default as many as memory and cores allow.
        scheduler: address of a Dask scheduler, instead of this machine.
        progress: shows the progress.

    Raises:
        UsageError: the folder cannot be written, or has a result of other flags.
        BackendError: the cluster does not answer.
    """
    progress = progress or Progress()
    check_temporary_room(0)
    out.mkdir(parents=True, exist_ok=True)
    ends: dict[str, Ended] = {}
    for job in grid.jobs:
        if (known := known_end(job, out / job.key)) is not None:
            ends[job.key] = known
    left = [job for job in grid.jobs if job.key not in ends]
    if ends:
        progress.note(f"{len(ends)} of {len(grid.jobs)} compiles were done before")
    if left:
        folder = grid.file.absolute().parent
        count = worker_count([folder / job.model for job in left], workers)
        found = run_on_cluster(left, out.absolute(), scheduler) if scheduler else run_locally(left, out, count)
        with progress.step("compiling", len(left)) as step:
            for ended in found:
                ends[ended.key] = ended
                step.advance()
                progress.note(f"{ended.key}: {ended.sentence or 'done'}")
    done = tuple(Done(job, ends[job.key]) for job in grid.jobs)
    write_summary(done, out)
    return Sweep(done, out)
