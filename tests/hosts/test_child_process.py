from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune.hosts.host import call_in_child


def test_a_clone_in_the_working_folder_does_not_hide_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "edgeprune").mkdir()
    (tmp_path / "edgeprune" / "__init__.py").write_text("raise RuntimeError('the wrong one')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    done = call_in_child("edgeprune.cli", "main", timeout_s=60)
    assert "the wrong one" not in done.errors
    assert "Usage: edgeprune" in done.output + done.errors


def test_the_child_gets_its_arguments(tmp_path: Path):
    done = call_in_child("os", "mkdir", str(tmp_path / "made"), timeout_s=60)
    assert done.code == 0
    assert (tmp_path / "made").is_dir()
