"""``gate --device``: what is looked at before all work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edgeprune import backends, compiler
from edgeprune.cli import judge_again
from edgeprune.dependency import file_digest
from edgeprune.errors import BackendError
from edgeprune.support import Progress


class Unreachable:
    """A board that is switched off."""

    name = "trtexec"
    host = SimpleNamespace(name="ssh://board")
    measure = outputs = max  # never called

    def facts(self) -> dict[str, str]:
        raise BackendError("ssh://board: no route to host")


def test_the_board_is_reached_before_data_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("net.onnx", "model.onnx"):
        (tmp_path / name).write_bytes(b"a model")
    request = SimpleNamespace(model=tmp_path / "net.onnx", runs_on=SimpleNamespace(name="tensorrt"))
    report: Any = SimpleNamespace(recipe={}, model=SimpleNamespace(sha256=file_digest(request.model)))
    monkeypatch.setattr(judge_again, "_request", lambda folder: request)
    monkeypatch.setattr(backends, "open_device", lambda *args, **given: Unreachable())
    monkeypatch.setattr(compiler, "open_model_and_data", lambda *args: pytest.fail("data was read"))
    with pytest.raises(BackendError, match="no route to host"):
        judge_again.judge_again(tmp_path, report, "ssh://board", None, Progress())
