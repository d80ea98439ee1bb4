"""Trials of narrower residual streams."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from edgeprune import graph
from edgeprune.calibration import Arrays
from edgeprune.dependency import OpenedModel, open_model
from edgeprune.passes.rank import Embedding, embedding_of
from edgeprune.support import Progress
from edgeprune.tokens import narrowing
from edgeprune.tokens.narrowing import Narrowing, narrowings, streams_to_try, try_narrowings
from edgeprune.tokens.trials import TokenTrial
from tests.passes.models import run
from tests.passes.rank.test_narrow_embedding import FEEDS, transformer
from tests.small_models import calibration


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrowing, "STEP", 4)


def opened(folder: Path) -> tuple[OpenedModel, Embedding]:
    graph.save(transformer(), folder / "net.onnx")
    made = open_model(folder / "net.onnx", {"x": (1, 3, 8, 8)}, Progress())
    embedding = embedding_of(made.dense)
    assert isinstance(embedding, Embedding)
    return made, embedding


def test_widths_are_multiples_of_a_register() -> None:
    assert [n.kept for n in narrowings(384)] == [336, 288, 240, 192, 144]
    assert [n.kept for n in narrowings(48)] == [32, 16]
    assert narrowings(16) == []
    assert str(Narrowing(384, 192)) == "192 of 384 channels of the residual stream"


def test_it_is_known_before_how_many_are_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = opened(tmp_path)
    assert streams_to_try(model, calibration(**FEEDS)) == 0  # 16 channels: no less
    monkeypatch.setattr(narrowing, "STEP", 4)
    assert streams_to_try(model, calibration(**FEEDS)) == 2


def test_only_streams_that_save_time_are_run_and_once(tmp_path: Path, small_steps: None) -> None:
    model, embedding = opened(tmp_path)
    ran: list[ir.Model] = []
    stored: list[Arrays] = []

    def error(narrow: ir.Model) -> float:
        ran.append(narrow)
        return 1.0 / len(ran)

    def remember(compute: object) -> Arrays:
        if not stored:
            assert callable(compute)
            stored.append(compute())
        return stored[0]

    def tried() -> list[TokenTrial]:
        shares = {12: 0.99, 8: 0.5}
        return try_narrowings(
            model,
            embedding,
            calibration(**FEEDS),
            1,
            1,
            lambda models, wanted: [shares[one.kept] for one in wanted],
            error,
            lambda fraction: None,
            remember,
        )

    found = tried()
    assert [t.schedule for t in found] == [Narrowing(16, 8)]
    assert (found[0].share, found[0].error) == (0.5, 1.0)
    assert [(t.schedule, t.error) for t in tried()] == [(Narrowing(16, 8), 1.0)]
    assert len(ran) == 1
    small = found[0].opened
    assert small.dense.graph.initializers["w1"].shape == ir.Shape((8, 24))
    assert small.analysis.groups
    (y,) = run(small.dense, x=FEEDS["x"][:1])
    assert y.shape == (1, 5)
