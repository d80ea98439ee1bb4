"""The machine that runs commands: this one, or another one over SSH. A backend that uses `Workspace` works on both.

No unquoted text reaches a shell: commands are argument lists, and jobs are scripts that quote every argument.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
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
        """The last line that is not empty, of the errors if there are any."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines() if line.strip()]
        return lines[-1].rstrip(".") if lines else "it printed nothing"

    def how(self) -> str:
        """How it ended: ``exit code 1`` or ``signal 11``."""
        return f"signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


class Workspace(Protocol):
    """A private folder on a host; it is deleted when the work is done."""

    path: str

    def put(self, source: Path, name: str) -> None:
        """Copy a local file into the folder."""

    def write(self, text: str, name: str) -> None:
        """Write a text file into the folder."""

    def put_all(self, source: Path, name: str) -> None:
        """Copy the files of a local folder into a folder of this one, which is made."""

    def read(self, name: str) -> bytes | None:
        """The content of a file in the folder, or None if there is none."""

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of those of these files that there are."""

    def run(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Finished:
        """Run a short command in the folder."""

    def job(self, script: str, timeout_s: float, progress: Callable[[float], None] | None = None) -> int:
        """Run a POSIX shell script in the folder, which may take long; returns its exit code.

        ``progress`` is called with the seconds so far. Raises BackendError if it takes longer than ``timeout_s``.
        """


def read_text(space: Workspace, name: str) -> str:
    """The content of a text file in a workspace; empty if there is none."""
    return (space.read(name) or b"").decode(errors="replace")


def describe(space: Workspace, script: str) -> str:
    """The machine in its own words: the lines that a script prints, joined."""
    return "; ".join(line.strip() for line in space.run(["sh", "-c", script]).output.splitlines() if line.strip())


class Host(Protocol):
    """A machine on which models are measured."""

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

    def put_all(self, source: Path, name: str) -> None:
        shutil.copytree(source, Path(self.path) / name, dirs_exist_ok=True)

    def read(self, name: str) -> bytes | None:
        file = Path(self.path) / name
        return file.read_bytes() if file.is_file() else None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        return {name: content for name in names if (content := self.read(name)) is not None}

    def run(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Finished:
        try:
            process = subprocess.Popen(
                list(arguments),
                cwd=self.path,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that its children end with it
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
    """End a process and its children if it still runs: first with SIGTERM, since traps may restore settings."""
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


def call_in_child(module: str, function: str, *arguments: str, timeout_s: float) -> Finished:
    """Import a module in a new Python process and call a function of it: native code may crash there.

    Raises:
        subprocess.TimeoutExpired: it did not end in time; it was killed.
    """
    # The working folder may hold another edgeprune, such as a clone without its passes beside an installed package.
    start = f"import sys; sys.path[:] = {sys.path!r}; "
    code = f"{start}from {module} import {function} as function; function(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False)
    return Finished(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
