"""What this process has used so far: processor time, memory, temporary files."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import sys
import time

_KIB = 1024
_PAGE_BYTES = mmap.PAGESIZE


class TemporaryFiles:
    """Bytes in temporary files of this process, now and at most."""

    def __init__(self) -> None:
        self.bytes = 0
        self.most_bytes = 0

    def add(self, count: int) -> None:
        """Count bytes that were written; a negative number counts deleted ones."""
        self.bytes += count
        self.most_bytes = max(self.most_bytes, self.bytes)


TEMPORARY_FILES = TemporaryFiles()
"""The meter that all spools of this process write to."""


def processor_s() -> float:
    """Processor seconds of this process, all threads together, and of the child processes that have ended."""
    try:
        import resource
    except ImportError:  # Windows
        return time.process_time()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


GROWTH_BYTES = 192 << 20
"""Memory that a process may take up before what is no longer needed is looked for."""


class _Released:
    """Bytes that the process held after the last release."""

    held = 1 << 62


def release_memory() -> None:
    """Free what is no longer needed and give it back to the system, if the process has grown since the last time.

    The nodes and values of a model refer to each other, so a model that nobody needs keeps its weights until Python
    looks for such circles. The C library keeps freed memory for later (glibc).
    """
    now = _resident_bytes()
    _Released.held = min(_Released.held, now)
    if now < _Released.held + GROWTH_BYTES:
        return
    gc.collect()
    with contextlib.suppress(OSError, TypeError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
    _Released.held = _resident_bytes()


def _resident_bytes() -> int:
    """Memory that the process holds now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def peak_memory_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * _KIB)
