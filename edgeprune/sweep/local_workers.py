"""Run the compiles of a sweep on this machine: so many at a time as its memory and cores allow."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from edgeprune.support import available_cores
from edgeprune.sweep.grid import Job
from edgeprune.sweep.run_job import Ended, run_job

BASE_BYTES = 1 << 30
"""Memory of a compile of a small model: libraries, sessions, samples."""

WEIGHTS_FACTOR = 12
"""Memory of a compile in sizes of its model: copies of the weights, statistics of their inputs."""


def worker_count(models: Sequence[Path], wanted: int | None = None) -> int:
    """How many compiles run at a time: as many as wanted, else as memory and cores allow.

    Args:
        models: the files.
        wanted: by the user.
    """
    if wanted is not None:
        return wanted
    largest = max((file.stat().st_size for file in models if file.is_file()), default=0)
    fitting = available_memory() // (BASE_BYTES + WEIGHTS_FACTOR * largest)
    return max(1, min(available_cores(), fitting))


def available_memory() -> int:
    """Bytes that new processes can use without swapping; all of the machine's where the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def run_locally(jobs: Sequence[Job], out: Path, workers: int) -> Iterator[Ended]:
    """How each job ended, as they end; Ctrl-C ends all of them."""
    running: set[subprocess.Popen[str]] = set()
    stopped = threading.Event()

    def started(process: subprocess.Popen[str]) -> None:
        running.add(process)
        if stopped.is_set():
            _end(process)

    with ThreadPoolExecutor(workers) as pool:
        coming = [pool.submit(run_job, job, str(out), started) for job in jobs]
        try:
            for future in as_completed(coming):
                yield future.result()
        except BaseException:
            stopped.set()
            for future in coming:
                future.cancel()
            for process in running:
                _end(process)
            raise


def _end(process: subprocess.Popen[str]) -> None:
    """End a compile and what it started; its output folder is not written then."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
