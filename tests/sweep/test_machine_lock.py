from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from edgeprune.sweep import machine_lock
from edgeprune.sweep.machine_lock import held, room_to_work


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))


class Waiting:
    """A thread that wants room; ``got`` is set when it has it, and it keeps it until ``release``."""

    def __init__(self, measures: bool, device: str | None = None):
        self.got, self.release = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(measures, device), daemon=True)
        self.thread.start()

    def _run(self, measures: bool, device: str | None) -> None:
        with room_to_work(measures=measures, device=device):
            self.got.set()
            self.release.wait(20)

    def end(self) -> None:
        self.release.set()
        self.thread.join(20)


def test_a_measurement_is_alone_on_its_machine_and_other_work_is_not():
    first, second = Waiting(measures=False), Waiting(measures=False)
    assert first.got.wait(10)
    assert second.got.wait(10)
    measuring = Waiting(measures=True)
    assert not measuring.got.wait(0.2)
    first.end()
    assert not measuring.got.wait(0.2)
    second.end()
    assert measuring.got.wait(10)
    after = Waiting(measures=False)
    assert not after.got.wait(0.2)
    measuring.end()
    assert after.got.wait(10)
    after.end()


def test_every_device_has_its_own_lock():
    one, other = Waiting(measures=False, device="ssh://a@x"), Waiting(measures=False, device="ssh://a@y")
    assert one.got.wait(10)
    assert other.got.wait(10)
    same = Waiting(measures=False, device="ssh://a@x")
    assert not same.got.wait(0.2)
    one.end()
    assert same.got.wait(10)
    same.end()
    other.end()


def test_a_child_that_outlives_its_parent_keeps_the_lock(tmp_path: Path):
    file = tmp_path / "x.lock"
    with held(file) as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,), text=True
        )
    got = threading.Event()

    def take() -> None:
        with held(file):
            got.set()

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    assert not got.wait(0.3)
    child.communicate("\n")
    assert got.wait(10)
    waiting.join(10)
    assert machine_lock.lock_folder().is_dir()
