"""Whether tokens leave, from the request to the folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune import graph
from edgeprune.compiler import compile_model, outcome, pipeline, token_sessions
from edgeprune.dependency import Ranking
from edgeprune.errors import ModelError, UsageError
from edgeprune.importance import ranking, rankings
from edgeprune.pytorch.apply import apply_plan
from edgeprune.report import Report
from edgeprune.tokens import narrowing
from tests.passes.rank.test_narrow_embedding import HIDDEN, TEXT, WIDTH, transformer
from tests.passes.tokens.vits import Vit

VIT = Vit(tokens=17, depth=3, width=16)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    graph.save(VIT.model(), tmp_path / "vit.onnx")
    x = np.random.default_rng(0).standard_normal((24, VIT.tokens, VIT.width)).astype(np.float32)
    np.savez(tmp_path / "calib.npz", input=x)
    return tmp_path


def compiled(folder: Path, **given: object) -> Report:
    settings = {"calibration": folder / "calib.npz", "out": folder / "out", "max_drop": 90.0} | given
    return compile_model(folder / "vit.onnx", "orin", **settings)  # type: ignore[arg-type]


def test_kernels_that_cost_more_than_tokens_save_are_named(files: Path) -> None:
    report = compiled(files)
    assert report.tokens is not None
    assert report.tokens.setting == "none"
    assert report.tokens.reason.startswith(
        "fewer tokens do not pay here: with the kernels that let them leave, the network takes"
    )
    assert report.tokens.time_share is not None
    assert report.tokens.time_share > 1
    assert "tokens" not in json.loads((files / "out" / "plan.json").read_text())


@pytest.fixture
def by_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is in proportion to multiply-accumulates, and no gain is too small."""

    def shares(whole: ir.Model, models: Sequence[ir.Model], *_: object, **__: object) -> list[float]:
        macs = [sum(graph.count_macs(model).values()) for model in (whole, *models)]
        return [count / macs[0] for count in macs[1:]]

    monkeypatch.setattr(token_sessions, "predicted_shares", shares)
    monkeypatch.setattr(token_sessions, "CLEARLY", 0.0)
    monkeypatch.setattr(outcome, "NEVER_SLOWER", 0.0)
    monkeypatch.setattr(pipeline, "NEVER_SLOWER", 0.0)


def test_a_narrower_residual_stream_is_in_plan_report_and_dense_model(
    files: Path, by_macs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrowing, "STEP", 4)
    graph.save(transformer(TEXT.replace("h = Relu", "h = Softmax")), files / "vit.onnx")
    np.savez(files / "calib.npz", x=np.random.default_rng(0).standard_normal((24, 3, 8, 8)).astype(np.float32))
    report = compiled(files, tokens="none", accept_loss=True, recover="none")
    plan = json.loads((files / "out" / "plan.json").read_text())
    kept = plan["embedding"]["kept"]
    assert plan["embedding"]["channels"] == WIDTH > kept
    assert any(f"the result has {kept} of 16 channels of the residual stream" in w for w in report.warnings)
    assert report.tokens is not None
    assert (report.tokens.setting, report.tokens.reason) == ("none", "--tokens none")
    dense = graph.load(files / "out" / "dense.onnx").graph.initializers["w1"]
    assert dense.shape == ir.Shape((kept, HIDDEN))
    wide, narrow = (
        sum(v.const_value.size for v in graph.load(f).graph.initializers.values() if v.const_value is not None)
        for f in (files / "vit.onnx", files / "out" / "dense.onnx")
    )
    assert report.sizes.result.parameters <= narrow < 0.9 * wide
    assert report.sizes.baseline.parameters == pytest.approx(wide, abs=8)
    with pytest.raises(ModelError, match="compile with --embedding none"):
        apply_plan(files / "out", files / "checkpoint.pt")


def test_tokens_that_leave_are_in_plan_report_and_dense_model(
    files: Path, by_macs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked: list[object] = []

    def rank(*given: Any) -> dict[str, Ranking]:
        ranked.append(given)
        return ranking.rank(*given)

    monkeypatch.setattr(rankings, "rank", rank)
    report = compiled(files, tokens="saint", accept_loss=True)
    assert len(ranked) == 1, "units of the model with fewer tokens were ranked again"
    assert report.tokens is not None
    assert report.tokens.setting == "saint"
    assert report.tokens.time_share is not None
    assert report.tokens.time_share < 1
    assert report.outcome.variant == "compressed"
    plan = json.loads((files / "out" / "plan.json").read_text())
    assert plan["tokens"]["setting"] == "saint"
    assert [step["leave"] for step in plan["tokens"]["steps"]] == [s.leave for s in report.tokens.steps]
    stay = VIT.tokens - sum(s.leave for s in report.tokens.steps)
    dense = onnx.shape_inference.infer_shapes(onnx.load(files / "out" / "dense.onnx"))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in dense.graph.value_info}
    assert shapes["block2"][1] == stay
    assert report.sizes.baseline.macs > report.sizes.result.macs
    with pytest.raises(ModelError, match="tokens leave by saint, which weights alone cannot say"):
        apply_plan(files / "out", files / "checkpoint.pt")


def test_all_tokens_stay_where_asked(files: Path) -> None:
    report = compiled(files, tokens="none")
    assert report.tokens is not None
    assert (report.tokens.setting, report.tokens.reason) == ("none", "--tokens none")
    with pytest.raises(UsageError, match="--tokens 'some': expected auto, none, tome, saint, dart or bavit"):
        compiled(files, tokens="some", out=files / "other")
