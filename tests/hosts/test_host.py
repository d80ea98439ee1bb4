from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.errors import BackendError
from edgeprune.hosts.host import Finished, LocalHost


def test_a_workspace_on_this_machine(tmp_path: Path):
    (tmp_path / "model").write_bytes(b"\x00\xff")
    with LocalHost().workspace() as space:
        space.put(tmp_path / "model", "a b'c")
        space.write("text", "notes")
        assert space.read("a b'c") == b"\x00\xff"
        assert space.read("absent") is None
        assert space.run(["cat", "notes"]).output == "text"
        assert space.run(["no-such-program"]).code == 127
        assert space.job("cat notes >copy; exit 4", timeout_s=10) == 4
        assert space.read("copy") == b"text"
        folder = Path(space.path)
    assert not folder.exists()


def test_what_takes_too_long_is_ended_and_puts_things_back(tmp_path: Path):
    script = f"trap 'echo restored >{tmp_path}/trapped' EXIT; trap 'exit 1' TERM; sleep 30"
    with LocalHost().workspace() as space, pytest.raises(BackendError, match=r"sh did not end within 0\.5 s"):
        space.job(script, timeout_s=0.5)
    assert (tmp_path / "trapped").read_text() == "restored\n"


def test_the_last_line_is_the_reason():
    assert Finished(1, "out", "first\nsecond.\n\n").last_line() == "second"
    assert Finished(1, "out\n", "").last_line() == "out"
    assert Finished(1, "", "").last_line() == "it printed nothing"
