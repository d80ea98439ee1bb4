from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.errors import CalibrationError
from edgeprune.images.find_pictures import Picture, find_pictures, is_picture_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.JPG", "a.png", "deep/c.webp", ".hidden/d.png", "deep/._e.png", "notes.md", "clip.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_a_folder_with_folders_and_videos(folder: Path):
    found = find_pictures(folder, 2)
    assert [str(picture.file.relative_to(folder)) for picture in found] == [
        "a.png",
        "b.JPG",
        "clip.mp4",
        "clip.mp4",
        "deep/c.webp",
    ]
    assert [picture.place for picture in found] == [None, None, 0.25, 0.75, None]
    assert str(found[2]).endswith("clip.mp4 at 25%")


def test_a_list_is_read_in_its_order(folder: Path, tmp_path: Path):
    (folder / "list.txt").write_text("# some\n./deep/c.webp\n\na.png 7\n", encoding="utf-8")
    found = find_pictures(folder / "list.txt", 2)
    assert [picture.file.name for picture in found] == ["c.webp", "a.png"]
    (folder / "list.txt").write_text("a.png\nz.png\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"list\.txt, line 2: there is no file 'z\.png'"):
        find_pictures(folder / "list.txt", 2)
    (folder / "list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CalibrationError, match="not a text file"):
        find_pictures(folder / "list.txt", 2)


def test_single_files_and_nothing(folder: Path, tmp_path: Path):
    assert find_pictures(folder / "a.png", 2) == (Picture(folder / "a.png"),)
    assert is_picture_source(folder / "clip.mp4")
    assert not is_picture_source(folder / "images.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CalibrationError, match=r"has no images \(\.bmp"):
        find_pictures(tmp_path / "empty", 2)
    with pytest.raises(CalibrationError, match="does not exist"):
        find_pictures(tmp_path / "none.txt", 2)
