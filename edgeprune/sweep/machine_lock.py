"""Locks of a machine and its devices: a measurement is alone on its machine, and each device has a lock of its own.

A lock is held by every process that has its file open, also by a child whose parent was killed. So a measurement that
has lost its parent still keeps others away until it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

MACHINE = "machine"


def lock_folder() -> Path:
    """A folder of this machine, not of a network: all users of the machine share it."""
    folder = Path(tempfile.gettempdir()) / "edgeprune-locks"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
    return folder


@contextlib.contextmanager
def held(file: Path, *, exclusive: bool = True) -> Iterator[int]:
    """Wait for the lock in a file, and hold it; yields its descriptor, for a child to inherit."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def room_to_work(*, measures: bool, device: str | None) -> Iterator[Sequence[int]]:
    """Hold what one compile needs: the machine alone if it measures there, and its device if it has one.

    Args:
        measures: whether it times networks on this machine; all other compiles then wait.
        device: address of the device on which it measures.
    """
    with contextlib.ExitStack() as stack:
        folder = lock_folder()
        names = [] if device is None else [f"device-{re.sub(r'[^A-Za-z0-9.-]', '_', device)}"]
        found = [stack.enter_context(held(folder / f"{name}.lock")) for name in names]
        found.append(stack.enter_context(held(folder / f"{MACHINE}.lock", exclusive=measures)))
        yield found
