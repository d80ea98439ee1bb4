"""Call a function in a new Python process: native code that crashes must not take this process down."""

from __future__ import annotations

import subprocess
import sys

from edgeprune.backends.host import Finished


def call_in_child(module: str, function: str, *arguments: str, timeout_s: float) -> Finished:
    """Import a module in a new process and call a function of it with text arguments.

    Raises:
        subprocess.TimeoutExpired: it did not end in time; it was killed.
    """
    # The working folder may hold another edgeprune, such as a clone without its passes beside an installed package.
    start = f"import sys; sys.path[:] = {sys.path!r}; "
    code = f"{start}from {module} import {function} as function; function(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False)
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
