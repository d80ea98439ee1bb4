"""A real sshd on the loopback interface, with keys of its own, for one test session."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
MISSING = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None] + ([] if SSHD else ["sshd"])


@dataclass
class Loopback:
    """How to reach it. ``programs`` is first in the PATH of what is run over it."""

    url: str
    config: Path
    folder: Path
    programs: Path
    daemon: subprocess.Popen[bytes]

    def program(self, name: str, script: str) -> Path:
        file = self.programs / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    def break_connections(self) -> None:
        """End the sessions that are open, not the daemon and not what they started in groups of its own."""
        listing = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        for pid, parent in (map(int, line.split()) for line in listing.splitlines()):
            if parent == self.daemon.pid:
                os.kill(pid, 9)


@contextmanager
def loopback(folder: Path, beside: Loopback | None = None) -> Iterator[Loopback]:
    """A machine, or another one beside it with the same keys, for the same configuration of ssh."""
    for key in ("host", "user"):
        if beside is None:
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        else:
            for name in (key, f"{key}.pub"):
                shutil.copy(beside.folder / name, folder / name)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    programs, spare = folder / "programs", folder / "tmp"
    programs.mkdir()
    spare.mkdir()
    (folder / "authorized").write_text((folder / "user.pub").read_text())
    known = (folder if beside is None else beside.folder) / "known"
    with known.open("a") as file:
        file.write(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/authorized\nPasswordAuthentication no\nPermitRootLogin yes\nUsePAM no\n"
        f"SetEnv HOME={folder} PATH={programs}:/usr/bin:/bin TMPDIR={spare} XDG_CACHE_HOME={folder}/cache"
        f" EDGEPRUNE_SYSFS={folder}/sys EDGEPRUNE_PROC={folder}/proc\n"
        "LogLevel ERROR\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n IdentityFile {folder}/user\n IdentitiesOnly yes\n IdentityAgent none\n"
        f" UserKnownHostsFile {folder}/known\n GlobalKnownHostsFile none\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where the daemon locks itself up; packages make it at boot
    assert SSHD is not None
    with open(folder / "sshd.log", "wb") as log:
        daemon = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        else:
            raise RuntimeError((folder / "sshd.log").read_text() or "sshd does not listen")
        url = f"ssh://{getpass.getuser()}@127.0.0.1:{port}"
        config = folder / "ssh_config" if beside is None else beside.config
        yield Loopback(url, config, folder, programs, daemon)
    finally:
        daemon.terminate()
        daemon.wait(10)
