"""Run the compiles of a sweep on a Dask cluster, whose workers share the folder of the sweep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeprune.errors import BackendError
from edgeprune.support import describe_failure
from edgeprune.sweep.grid import Job
from edgeprune.sweep.run_job import Ended, run_job

RETRIES = 3
"""So often a compile is started on another worker after its worker was lost."""

_CONNECT_S = 20


def run_on_cluster(jobs: Sequence[Job], out: Path, scheduler: str) -> Iterator[Ended]:
    """How each job ended, as they end.

    Args:
        jobs: the compiles.
        out: folder of the sweep, at the same path on all workers.
        scheduler: address of the scheduler, such as ``tcp://head:8786``.

    Raises:
        BackendError: Dask is not installed, the scheduler does not answer, or workers were lost again and again.
    """
    try:
        dask: Any = import_module("distributed")  # without types
    except ImportError:
        raise BackendError("--scheduler needs Dask: pip install 'edgeprune[cluster]'") from None
    try:
        client = dask.Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendError(f"no Dask scheduler answers at {scheduler} ({describe_failure(error)})") from error
    with client:
        coming = [
            client.submit(run_job, job, str(out), key=f"edgeprune-{out}-{job.key}", retries=RETRIES, pure=False)
            for job in jobs
        ]
        try:
            for future in dask.as_completed(coming, loop=client.loop):
                yield future.result()
        except dask.KilledWorker as error:
            raise BackendError(f"the cluster lost workers again and again: {describe_failure(error)}") from error
        finally:
            client.cancel(coming)
