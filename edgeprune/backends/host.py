"""Where commands run: this machine, or another one over SSH. A backend written against `Workspace` works on both.

Nothing here goes through a shell with unquoted text: commands are argument lists, and jobs are scripts that quote every
argument.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeprune.errors import BackendError


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code and what it printed."""

    code: int
    output: str
    errors: str

    def last_line(self) -> str:
        """The last line that says something, of the errors if there are any."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines() if line.strip()]
        return lines[-1].rstrip(".") if lines else "it printed nothing"


class Workspace(Protocol):
    """A private folder on a host, gone when the work is done."""

    path: str

    def put(self, source: Path, name: str) -> None:
        """Copy a local file into the folder."""

    def write(self, text: str, name: str) -> None:
        """Write a text file into the folder."""

    def read(self, name: str) -> bytes | None:
        """The content of a file of the folder, or None if there is none."""

    def run(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Finished:
        """Run a short command in the folder."""

    def job(self, script: str, timeout_s: float, progress: Callable[[float], None] | None = None) -> int:
        """Run a POSIX shell script in the folder to its end, which may take long; its exit code.

        ``progress`` is called now and then with the seconds gone. Raises BackendError if it outlasts ``timeout_s``.
        """


class Host(Protocol):
    """A machine that models are measured on."""

    name: str

    def workspace(self) -> AbstractContextManager[Workspace]:
        """A new private folder on the machine."""


class LocalHost:
    """This machine."""

    name = "this machine"

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A temporary folder."""
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            yield _LocalWorkspace(folder)


class _LocalWorkspace:
    def __init__(self, path: str):
        self.path = path

    def put(self, source: Path, name: str) -> None:
        shutil.copyfile(source, Path(self.path) / name)

    def write(self, text: str, name: str) -> None:
        (Path(self.path) / name).write_text(text)

    def read(self, name: str) -> bytes | None:
        file = Path(self.path) / name
        return file.read_bytes() if file.is_file() else None

    def run(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Finished:
        pipe = subprocess.PIPE
        try:
            # A session of its own, so that ending it ends what it started.
            process = subprocess.Popen(
                list(arguments),
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            )
        except FileNotFoundError:
            return Finished(127, "", f"{arguments[0]}: not found")
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"{arguments[0]} did not end within {timeout_s:g} s") from error
        finally:
            _end(process)
        return Finished(process.returncode, output.decode(errors="replace"), errors.decode(errors="replace"))

    def job(self, script: str, timeout_s: float, progress: Callable[[float], None] | None = None) -> int:
        self.write(script, "job.sh")
        return self.run(["sh", "job.sh"], timeout_s).code


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children if it still runs: first politely, since traps may put things back."""
    for sign, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if process.poll() is not None:
            break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
