"""A machine over SSH, with the system's OpenSSH client: the user's keys, agent and configuration apply.

Host keys are always checked, and there are no password prompts. Long work does not depend on the connection: it runs as
a detached job that writes its exit code to a file. The machine itself looks for that file, so a short job costs one
command. A lost connection is opened again.
"""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeprune.errors import BackendError
from edgeprune.hosts.address import Address, parse_address
from edgeprune.hosts.host import Finished, Workspace

_LOST = 255
"""ssh's exit code for every failure of the connection."""

_STALE_MINUTES = 2 * 24 * 60
_UPLOAD_SECONDS_PER_MB = 2.0

_START = """
test -e {job}.pid || {{
cat >{job}.sh
test "$(wc -c <{job}.sh)" -eq {size} || {{ echo "a script did not arrive; is the disk full?" >&2; exit 1; }}
setsid sh -c 'sh {job}.sh >{job}.log 2>&1; echo $? >{job}.part; mv {job}.part {job}.code' </dev/null >/dev/null 2>&1 &
echo $! >{job}.pid
}}
"""
"""Starts the job of the standard input only once, even if the connection breaks: after a lost answer it may run."""

_ASK = """
for s in {pauses}; do
test -e {job}.code && break; kill -0 "$(cat {job}.pid)" 2>/dev/null || break
sleep $s 2>/dev/null || sleep 1
done
{{ cat {job}.code || kill -0 "$(cat {job}.pid)" || cat {job}.code || echo ended; }} 2>/dev/null
"""
"""Waits for the end of the job, at most for the pauses; prints its exit code, or nothing while it runs.

BusyBox's sleep may know no fractions of a second: then a pause is a whole one.

The job may end between the first two checks of the last line: hence three.
"""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S, _ANSWER_WITHIN_S = 0.02, 2.0, 5.0

_STOP = """
test -e {job}.pid || exit 0
group="-$(cat {job}.pid)"
kill -s TERM -- "$group" 2>/dev/null
for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20
do kill -0 "$group" 2>/dev/null || exit 0; sleep 0.5 2>/dev/null || sleep 1; done
kill -s KILL -- "$group" 2>/dev/null; true
"""
"""A job has its own process group: end it and its children, and wait until its traps have restored settings."""


class SshHost:
    """A machine over SSH.

    Args:
        address: ``ssh://user@host[:port]``, or its parts.
        config: an OpenSSH client configuration instead of the user's own.
        patience_s: seconds for which a lost connection is retried.
    """

    def __init__(self, address: str | Address, *, config: Path | None = None, patience_s: float = 120.0):
        self.address = parse_address(address) if isinstance(address, str) else address
        self.name = str(self.address)
        self._config = config
        self._patience_s = patience_s
        self._sockets: str | None = None

    @contextmanager
    def workspace(self) -> Iterator[Workspace]:
        """A new folder below the machine's temporary folder; folders from days ago are deleted.

        Raises:
            BackendError: the machine cannot be reached or logged in to; the text has ssh's message.
        """
        stale = f"-maxdepth 1 -type d -name 'edgeprune-*' -user \"$(id -un)\" -mmin +{_STALE_MINUTES}"
        clean = 'd="${TMPDIR:-/tmp}"; find "$d" ' + stale + " -exec rm -rf {} + 2>/dev/null"
        with self._shared_connection():
            made = self.run(f'{clean}; mktemp -d "$d/edgeprune-XXXXXX"')
            if made.code or not made.output.strip().startswith("/"):
                raise BackendError(f"{self.name}: no temporary folder could be created there: {made.last_line()}")
            space = _SshWorkspace(self, made.output.strip())
            try:
                yield space
            finally:
                with contextlib.suppress(BackendError):  # the work is done or failed; a later session cleans up
                    space.remove()

    @contextmanager
    def _shared_connection(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="ep-") as folder:
            self._sockets = folder
            try:
                yield
            finally:
                self._once("", 10.0, None, None, control="exit")
                self._sockets = None

    def run(
        self, command: str, timeout_s: float = 60.0, *, stdin: Path | bytes | None = None, target: Path | None = None
    ) -> Finished:
        """Run one quoted command line in the login shell; run it again if the connection is lost.

        Raises:
            BackendError: ssh is missing, the connection cannot be opened, or the command does not end in time.
        """
        deadline = time.monotonic() + self._patience_s
        pause_s = 0.5
        while True:
            done = self._once(command, timeout_s, stdin, target)
            if done.code != _LOST:
                return done
            if _is_final(done.errors) or time.monotonic() + pause_s > deadline:
                raise BackendError(f"{self.name}: {done.last_line()}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, 10.0)

    def _once(
        self,
        command: str,
        timeout_s: float,
        stdin: Path | bytes | None,
        target: Path | None,
        *,
        control: str | None = None,
    ) -> Finished:
        options = ["-T", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=10"]
        options += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", "LogLevel=ERROR"]
        if self._sockets is not None:  # all commands share one login
            options += ["-o", "ControlMaster=auto", "-o", "ControlPersist=60"]
            options += ["-o", f"ControlPath={self._sockets}/%C"]
        options += ["-F", str(self._config)] if self._config else []
        options += ["-p", str(self.address.port)] if self.address.port else []
        options += ["-l", self.address.user] if self.address.user else []
        options += ["-O", control] if control else []
        # The login shell can be any shell; the command runs in a POSIX shell.
        arguments = ["ssh", *options, "--", self.address.host, f"exec sh -c {shlex.quote(command)}"]
        with contextlib.ExitStack() as files:
            if isinstance(stdin, bytes):
                given: dict[str, Any] = {"input": stdin}
            else:
                given = {"stdin": files.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL}
            sink = files.enter_context(target.open("wb")) if target else subprocess.PIPE
            try:
                done = subprocess.run(
                    arguments, stdout=sink, stderr=subprocess.PIPE, timeout=timeout_s, check=False, **given
                )
            except FileNotFoundError as error:
                raise BackendError("this machine has no ssh: install the OpenSSH client") from error
            except subprocess.TimeoutExpired as error:
                raise BackendError(f"{self.name}: no answer within {timeout_s:.0f} s") from error
        return Finished(
            done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode(errors="replace")
        )


class _SshWorkspace:
    def __init__(self, host: SshHost, path: str):
        self.path = path
        self._host = host
        self._jobs = 0

    def put(self, source: Path, name: str) -> None:
        size = source.stat().st_size
        allowed_s = 60 + _UPLOAD_SECONDS_PER_MB * size / 1e6
        quoted = shlex.quote(name)
        command = f"cat >{quoted} && wc -c <{quoted}"
        arrived = self._in_folder(command, timeout_s=allowed_s, stdin=source).output.strip()
        if arrived != str(size):
            raise BackendError(
                f"{self._host.name}: {arrived} of {size} bytes of {source.name} arrived; is the disk full?"
            )

    def write(self, text: str, name: str) -> None:
        self._in_folder(f"cat >{shlex.quote(name)}", stdin=text.encode())

    def put_all(self, source: Path, name: str) -> None:
        files = sorted(source.iterdir())
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            packed = Path(folder) / "files.tar"
            with tarfile.open(packed, "w") as archive:
                for file in files:
                    archive.add(file, file.name)
            allowed_s = 60 + _UPLOAD_SECONDS_PER_MB * packed.stat().st_size / 1e6
            quoted = shlex.quote(name)
            command = f'mkdir -p {quoted} && cd {quoted} && tar -xf - && for f in *; do wc -c <"$f"; done'
            arrived = self._in_folder(command, timeout_s=allowed_s, stdin=packed).output.split()
        if sorted(map(int, arrived)) != sorted(file.stat().st_size for file in files):
            raise BackendError(f"{self._host.name}: not all of {name} arrived; is the disk full?")

    def read(self, name: str) -> bytes | None:
        quoted = shlex.quote(name)
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            target = Path(folder) / "file"
            command = f"cd {shlex.quote(self.path)} && test -f {quoted} && cat {quoted}"
            done = self._host.run(command, timeout_s=600, target=target)
            return target.read_bytes() if done.code == 0 else None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
            packed = Path(folder) / "files.tar"
            found = f'for f in {shlex.join(names)}; do test -f "$f" && set -- "$@" "$f"; done; test $# -eq 0'
            command = f'cd {shlex.quote(self.path)} && set -- && {{ {found} || tar -cf - "$@"; }}'
            done = self._host.run(command, timeout_s=600, target=packed)
            if done.code:
                raise BackendError(f"{self._host.name}: {done.last_line()}")
            if not packed.stat().st_size:
                return {}
            with tarfile.open(packed) as archive:
                opened = {member.name.removeprefix("./"): archive.extractfile(member) for member in archive}
                return {name: file.read() for name, file in opened.items() if file is not None}

    def run(self, arguments: Sequence[str], timeout_s: float = 60.0) -> Finished:
        return self._host.run(f"cd {shlex.quote(self.path)} && {shlex.join(arguments)}", timeout_s)

    def job(self, script: str, timeout_s: float, progress: Callable[[float], None] | None = None) -> int:
        self._jobs += 1
        started, waiting = time.monotonic(), _Waiting()
        if progress is not None:
            progress(0.0)
        given = script.encode()
        ask = _START.format(job=self._job, size=len(given)) + _ASK.format(job=self._job, pauses=waiting.next(timeout_s))
        code = self._in_folder(ask, stdin=given).output.strip()
        while code == "":
            gone_s = time.monotonic() - started
            if gone_s > timeout_s:
                self._stop()
                raise BackendError(f"{self._host.name}: the work there did not end within {timeout_s:.0f} s")
            if progress is not None:
                progress(gone_s)
            pauses = waiting.next(timeout_s - gone_s)
            code = self._in_folder(_ASK.format(job=self._job, pauses=pauses)).output.strip()
        if not code.isdecimal():
            raise BackendError(f"{self._host.name}: the work there was killed; is its memory too small?")
        return int(code)

    def remove(self) -> None:
        """Stop the job if it still runs, and delete the folder."""
        path = shlex.quote(self.path)
        self._host.run(f"cd {path} && ({_STOP.format(job=self._job)})\nrm -rf {path}")

    @property
    def _job(self) -> str:
        return f"job{self._jobs}"

    def _stop(self) -> None:
        self._in_folder(_STOP.format(job=self._job))

    def _in_folder(self, command: str, *, timeout_s: float = 60.0, stdin: Path | bytes | None = None) -> Finished:
        done = self._host.run(f"cd {shlex.quote(self.path)} || exit\n{command}", timeout_s, stdin=stdin)
        if done.code:
            raise BackendError(f"{self._host.name}: {done.last_line()}")
        return done


class _Waiting:
    """The pauses between two looks for the end of a job: short ones at first, longer ones later."""

    def __init__(self) -> None:
        self._pause_s = _FIRST_PAUSE_S

    def next(self, at_most_s: float) -> str:
        """The pauses until the next answer, seconds, separated by spaces: at least one."""
        pauses: list[float] = []
        while not pauses or sum(pauses) < min(at_most_s, _ANSWER_WITHIN_S):
            pauses.append(self._pause_s)
            self._pause_s = min(1.5 * self._pause_s, _LONGEST_PAUSE_S)
        return " ".join(f"{pause_s:.2f}" for pause_s in pauses)


def _is_final(errors: str) -> bool:
    """Whether a retry cannot help: the host key or the login is refused, or the name is unknown."""
    signs = ("Host key verification failed", "Permission denied", "Could not resolve", "Bad configuration")
    return any(sign in errors for sign in signs)
