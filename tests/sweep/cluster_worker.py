"""A Dask worker of one thread whose compiles are the stand-in."""

from __future__ import annotations

import asyncio

from edgeprune.sweep import run_job


def main(scheduler_file: str) -> None:
    run_job.PROGRAM = ("tests.sweep.stand_in",)
    asyncio.run(_work(scheduler_file))


async def _work(scheduler_file: str) -> None:
    from distributed import Worker

    async with Worker(scheduler_file=scheduler_file, nthreads=1, dashboard=False) as worker:
        await worker.finished()
