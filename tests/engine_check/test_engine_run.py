"""An engine as a callable: batches in pieces of its size, and nothing run twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgeprune.backends import EngineRuns
from edgeprune.calibration import open_calibration
from edgeprune.engine_check.engine_run import EngineRun
from edgeprune.errors import BackendError
from edgeprune.support import Progress
from tests.passes.graphs import build

DOUBLED = """<ir_version: 8, opset_import: ["" : 17]>
net (float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }"""


class Doubling:
    """A device whose engine doubles its input; it keeps the sizes that it was given."""

    host = SimpleNamespace(name="here")

    def __init__(self) -> None:
        self.sizes: list[list[int]] = []

    def outputs(self, model: Any, feeds: Sequence[Mapping[str, Any]], **options: Any) -> EngineRuns:
        self.sizes.append([len(feed["x"]) for feed in feeds])
        return EngineRuns([[2 * feed["x"]] for feed in feeds], "a test")


def engine(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> tuple[EngineRun, Doubling]:
    model, device = build(DOUBLED), Doubling()
    np.savez(folder / "x.npz", x=np.zeros((4, 3), np.float32))
    data = open_calibration(str(folder / "x.npz"), model)
    return EngineRun(device, model, b"", data, shapes, Progress()), device  # type: ignore[arg-type]


def test_a_batch_is_run_in_pieces_whose_last_is_filled_up(tmp_path: Path) -> None:
    run, device = engine(tmp_path, {"x": (2, 3)})
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    np.testing.assert_array_equal(run.run({"x": x})[0], 2 * x)
    assert device.sizes == [[2, 2, 2]]


def test_what_was_run_is_not_run_again(tmp_path: Path) -> None:
    run, device = engine(tmp_path, {"x": (2, 3)})
    x = np.arange(18, dtype=np.float32).reshape(6, 3)
    run.prefetch([{"x": x[:4]}])
    np.testing.assert_array_equal(run.run({"x": x})[0], 2 * x)
    assert device.sizes == [[2, 2], [2]]


def test_an_engine_of_no_batch_is_refused(tmp_path: Path) -> None:
    run, device = engine(tmp_path, {"x": (0, 3)})
    with pytest.raises(BackendError, match="the engine has an open batch"):
        run.run({"x": np.ones((1, 3), np.float32)})
    assert not device.sizes
