"""What this process has used so far: processor time, memory, temporary files."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import time

_KIB = 1024


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


def release_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for later (glibc)."""
    with contextlib.suppress(OSError, TypeError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes() -> int:
    """The most memory that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(most if sys.platform == "darwin" else most * _KIB)
