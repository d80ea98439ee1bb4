from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends.loopback import MISSING, Loopback, loopback

FAKE_TRTEXEC = Path(__file__).with_name("fake_trtexec.py")


@pytest.fixture(scope="session")
def device() -> Iterator[Loopback]:
    """A device at the end of a real SSH connection: this machine."""
    if MISSING:
        pytest.skip(f"{' and '.join(MISSING)} not installed: no SSH to loopback (Debian: openssh-server)")
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, loopback(Path(folder)) as running:
        yield running


@pytest.fixture
def fake_trtexec(tmp_path: Path) -> Callable[[int], str]:
    """The command of a fake trtexec of the given version."""

    def make(version: int) -> str:
        file = tmp_path / f"fake trtexec {version}"
        file.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{FAKE_TRTEXEC}' {version} \"$@\"\n")
        file.chmod(0o755)
        return str(file)

    return make
