from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgeprune.errors import UsageError
from edgeprune.support.atomic_output import check_file, check_output, check_temporary_room, output_folder, write_text


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def written(folder: Path, text: str = "old") -> Path:
    folder.mkdir()
    (folder / "report.json").write_text(text)
    return folder


def test_the_folder_appears_when_all_is_written(tmp_path: Path):
    out = tmp_path / "deep" / "out"
    with output_folder(out) as folder:
        (folder / "model.onnx").write_text("new")
        assert not out.exists()
        assert folder.parent == out.parent
    assert entries(out) == ["model.onnx"]
    assert entries(out.parent) == ["out"]


def write_and_stop(out: Path, stop: BaseException) -> None:
    with output_folder(out) as folder:
        (folder / "model.onnx").write_text("half")
        raise stop


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), ValueError(), SystemExit(143)])
def test_nothing_stays_after_an_error(tmp_path: Path, stop: BaseException):
    with pytest.raises(type(stop)):
        write_and_stop(tmp_path / "deep" / "out", stop)
    assert entries(tmp_path) == []


def test_a_full_disk_is_a_sentence_and_nothing_stays(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot write .*out.*No space left"):
        write_and_stop(tmp_path / "out", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    assert entries(tmp_path) == []


def test_an_error_about_other_files_passes_through(tmp_path: Path):
    with pytest.raises(FileNotFoundError), output_folder(tmp_path / "out"):
        (tmp_path / "weights.bin").read_bytes()


def test_an_old_folder_is_refused_without_force(tmp_path: Path):
    out = written(tmp_path / "out")
    with pytest.raises(UsageError, match="exists; --force replaces it"), output_folder(out):
        pass
    assert (out / "report.json").read_text() == "old"


def test_force_replaces_the_folder_whole(tmp_path: Path):
    out = written(tmp_path / "out")
    (out / "model.engine").write_text("old")
    with output_folder(out, force=True) as folder:
        (folder / "report.json").write_text("new")
        assert (out / "report.json").read_text() == "old"
    assert entries(out) == ["report.json"]
    assert (out / "report.json").read_text() == "new"
    assert entries(tmp_path) == ["out"]


def test_force_keeps_the_old_folder_when_the_work_fails(tmp_path: Path):
    out = written(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt), output_folder(out, force=True):
        raise KeyboardInterrupt
    assert (out / "report.json").read_text() == "old"
    assert entries(tmp_path) == ["out"]


def test_force_replaces_an_empty_folder(tmp_path: Path):
    (tmp_path / "out").mkdir()
    check_output(tmp_path / "out", force=True)


def test_force_deletes_no_files_of_others(tmp_path: Path):
    (tmp_path / "photo.jpg").write_text("dear")
    with pytest.raises(UsageError, match="did not write"):
        check_output(tmp_path, force=True)


def test_force_does_not_replace_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(written(tmp_path / "out"))
    with pytest.raises(UsageError, match="contains the working folder"):
        check_output(Path("."), force=True)


@pytest.mark.parametrize("make", [Path.touch, lambda path: path.symlink_to(path.parent)])
def test_files_and_links_are_not_replaced(tmp_path: Path, make):
    make(tmp_path / "out")
    with pytest.raises(UsageError, match="is not a folder"):
        check_output(tmp_path / "out", force=True)


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot write"), output_folder(tmp_path / "file" / "out"):
        pass


def test_text_is_written_whole_or_not_at_all(tmp_path: Path):
    write_text(tmp_path / "a.md", "first")
    write_text(tmp_path / "a.md", "second")
    assert (tmp_path / "a.md").read_text() == "second"
    with pytest.raises(UsageError, match="cannot write"):
        write_text(tmp_path / "missing" / "a.md", "text")
    assert entries(tmp_path) == ["a.md"]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def read_only(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(UsageError, match=r"cannot write '.*/a/b': Read-only file system"):
        check_output(tmp_path / "a" / "b", force=False)
    with pytest.raises(UsageError, match=r"cannot write '.*/a\.onnx': Read-only file system"):
        check_file(tmp_path / "a.onnx", force=False)


def test_full_disks_are_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000))
    check_output(tmp_path / "out", force=False, needs_bytes=4_000_000)
    with pytest.raises(UsageError, match="needs about 8 MB, but its disk has 5 MB left: name another folder with -o"):
        check_output(tmp_path / "out", force=False, needs_bytes=8_000_000)
    with pytest.raises(UsageError, match=r"temporary files need about 8 MB, but .* has 5 MB left: .* in TMPDIR"):
        check_temporary_room(8_000_000)
    check_temporary_room(1)

    def nowhere() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(UsageError, match="no folder for temporary files can be written: name one in TMPDIR"):
        check_temporary_room(1)
