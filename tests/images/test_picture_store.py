from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.errors import CalibrationError
from edgeprune.images import picture_store
from edgeprune.images.find_pictures import find_pictures
from edgeprune.images.picture_store import decode_all
from edgeprune.images.preprocessing import Preprocessing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level in range(5):
        Image.fromarray(np.full((6, 9, 3), 10 * level, np.uint8)).save(tmp_path / f"{level}.png")
    (tmp_path / "2.png").write_bytes(b"broken")
    return tmp_path


@pytest.mark.parametrize("in_memory", [True, False])
def test_broken_files_are_skipped_and_named(folder: Path, in_memory: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(picture_store, "IN_MEMORY_BYTES", 1 << 20 if in_memory else 0)
    done: list[float] = []
    found = decode_all(find_pictures(folder, 1), 4, 4, 3, Preprocessing(), progress=done.append)
    assert found.array[:, 0, 0, 0].tolist() == [0, 10, 30, 40]
    assert isinstance(found.array, np.memmap) != in_memory
    assert [text.split("/")[-1].split()[0] for text in found.broken] == ["2.png"]
    assert done[-1] == 1


def test_strict(folder: Path):
    with pytest.raises(CalibrationError, match=r"2\.png can't be read as an image.*\(--strict\)"):
        decode_all(find_pictures(folder, 1), 4, 4, 3, Preprocessing(), strict=True)
    with pytest.raises(CalibrationError, match="none of 1 files can be read"):
        decode_all(find_pictures(folder / "2.png", 1), 4, 4, 3, Preprocessing())


def test_no_room(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(picture_store, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(CalibrationError, match=r"need 0\.0 GB in .*No space left.*--calib-samples.*TMPDIR"):
        decode_all(find_pictures(folder, 1), 4, 4, 3, Preprocessing())
