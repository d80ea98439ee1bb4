from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from edgeprune.errors import BackendError, UsageError
from edgeprune.hosts import ssh
from edgeprune.hosts.address import Address, parse_address
from edgeprune.hosts.ssh import SshHost
from tests.backends.loopback import Loopback


@pytest.fixture
def host(device: Loopback) -> SshHost:
    return SshHost(device.url, config=device.config, patience_s=20)


def left_behind(device: Loopback) -> list[Path]:
    return list((device.folder / "tmp").glob("edgeprune-*"))


def test_addresses():
    assert parse_address("ssh://user@jetson:2222") == Address("jetson", "user", 2222)
    assert parse_address("ssh://10.0.0.7") == Address("10.0.0.7")
    assert str(Address("jetson", "user", 22)) == "ssh://user@jetson:22"


@pytest.mark.parametrize(
    "url",
    [
        *("jetson", "http://jetson", "ssh://", "ssh://-oProxyCommand=x", "ssh://-v@jetson", "ssh://a b"),
        *("ssh://jetson/path", "ssh://jetson:port", "ssh://u:secret@jetson", "ssh://jetson;reboot"),
        *("ssh://$(reboot)", "ssh://jetson:99999"),
    ],
)
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(UsageError, match="expected ssh://user@host"):
        parse_address(url)


def test_files_and_arguments_arrive_as_they_are(host: SshHost, device: Loopback, tmp_path: Path):
    names = ["a b; quote'd", "$(touch broken)", "-n", 'dou"ble\nline']
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    with host.workspace() as space:
        for name in names:
            space.put(tmp_path / "file", name if name != "-n" else "./-n")
            assert space.read(name if name != "-n" else "./-n") == content
        assert sorted(space.run(["ls", "-1", "-q", "--", "."]).output.split("\n")[:-1]) == sorted(
            n.replace("\n", "?") for n in names
        )
        assert space.run(["printf", "%s|", *names]).output == "".join(f"{n}|" for n in names)
        assert space.read("absent") is None
    assert not left_behind(device)


def test_a_job_runs_to_its_end_and_its_code_comes_back(host: SshHost, device: Loopback):
    with host.workspace() as space:
        assert space.job("echo done >result; exit 3", timeout_s=20) == 3
        assert space.read("result") == b"done\n"
        assert space.job("true", timeout_s=20) == 0
    assert not left_behind(device)


def test_a_short_job_costs_one_command(host: SshHost, monkeypatch: pytest.MonkeyPatch):
    commands: list[str] = []
    run = SshHost.run

    def counted(self: SshHost, command: str, *args: object, **given: object) -> object:
        commands.append(command)
        return run(self, command, *args, **given)  # type: ignore[arg-type]

    with host.workspace() as space:
        monkeypatch.setattr(SshHost, "run", counted)
        assert space.job("true", timeout_s=20) == 0
        assert len(commands) == 1


def test_a_sleep_that_knows_no_fractions_is_not_asked_again_and_again(
    host: SshHost, device: Loopback, monkeypatch: pytest.MonkeyPatch
):
    """That of BusyBox on some boards: the pauses ended at once, and every look for the end was a command of its own."""
    device.program("sleep", 'case "$1" in *.*) exit 1;; esac; exec /bin/sleep "$1"')
    commands: list[str] = []
    run = SshHost.run

    def counted(self: SshHost, command: str, *args: object, **given: object) -> object:
        commands.append(command)
        return run(self, command, *args, **given)  # type: ignore[arg-type]

    try:
        with host.workspace() as space:
            monkeypatch.setattr(SshHost, "run", counted)
            assert space.job("sleep 1; exit 3", timeout_s=20) == 3
            assert len(commands) == 1
    finally:
        (device.programs / "sleep").unlink()


def test_folders_are_sent_and_files_are_read_by_one_command_each(
    host: SshHost, device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a b").write_bytes(b"\x00\xff")
    (tmp_path / "empty").write_bytes(b"")
    commands: list[str] = []
    run = SshHost.run

    def counted(self: SshHost, command: str, *args: object, **given: object) -> object:
        commands.append(command)
        return run(self, command, *args, **given)  # type: ignore[arg-type]

    with host.workspace() as space:
        monkeypatch.setattr(SshHost, "run", counted)
        space.put_all(tmp_path, "folder")
        assert space.read_all(["folder/a b", "absent", "folder/empty"]) == {
            "folder/a b": b"\x00\xff",
            "folder/empty": b"",
        }
        assert space.read_all(["absent"]) == {}
        assert len(commands) == 3


def test_a_script_that_arrives_in_part_is_not_run(host: SshHost):
    with host.workspace() as space:
        start = ssh._START.format(job="job1", size=3)
        done = host.run(f"cd {space.path}\n{start}", stdin=b"touch ran")
        assert done.code == 1
        assert "did not arrive" in done.errors
        assert space.read("job1.pid") is None


def test_a_job_survives_a_lost_connection(host: SshHost, device: Loopback):
    with host.workspace() as space:
        breaker = threading.Thread(target=lambda: [(time.sleep(0.3), device.break_connections()) for _ in range(5)])
        breaker.start()
        assert space.job("sleep 2; echo whole >result", timeout_s=60) == 0
        breaker.join()
        assert space.read("result") == b"whole\n"
    assert not left_behind(device)


def test_a_job_that_takes_too_long_is_ended_with_its_children(host: SshHost, device: Loopback):
    with host.workspace() as space, pytest.raises(BackendError, match="did not end within 1 s"):
        space.job("trap 'echo restored >>../trapped' EXIT; trap 'exit 1' TERM; sleep 300", timeout_s=1)
    assert (device.folder / "tmp" / "trapped").read_text() == "restored\n"
    assert not left_behind(device)


def test_the_folder_goes_when_the_work_fails(host: SshHost, device: Loopback):
    with pytest.raises(BackendError, match="absent/file"), host.workspace() as space:
        space.write("x", "absent/file")
    assert not left_behind(device)


def test_an_unknown_host_key_is_refused(device: Loopback, tmp_path: Path):
    config = tmp_path / "config"
    config.write_text(device.config.read_text().replace(str(device.folder / "known"), str(tmp_path / "nothing")))
    with (
        pytest.raises(BackendError, match="Host key verification failed"),
        SshHost(device.url, config=config).workspace(),
    ):
        pass


def test_a_login_that_is_not_allowed_is_reported(device: Loopback, tmp_path: Path):
    config = tmp_path / "config"
    config.write_text(device.config.read_text().replace(str(device.folder / "user"), str(tmp_path / "nothing")))
    with pytest.raises(BackendError, match="Permission denied"), SshHost(device.url, config=config).workspace():
        pass


def test_a_machine_that_is_off_is_reported(device: Loopback):
    closed = Address("127.0.0.1", None, 1)
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1.*refused"):
        SshHost(closed, config=device.config, patience_s=0).run("true")
