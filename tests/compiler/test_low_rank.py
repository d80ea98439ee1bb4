"""A compile that makes two layers of low rank from one, and what reads its folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import edgeprune
from edgeprune import graph
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build import Plan
from edgeprune.costmodel import predict
from edgeprune.distill import Settings
from edgeprune.errors import UsageError
from edgeprune.report import Report
from tests.ranks.networks import one_layer, samples


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a compile with a budget that no format of the whole layer meets."""
    home = tmp_path_factory.mktemp("low_rank")
    graph.save(one_layer(), home / "net.onnx")
    np.savez(home / "calib.npz", x=samples(512))
    edgeprune.compile(
        home / "net.onnx",
        "orin",
        speedup=1.4,
        precision="fp32",
        tokens="none",
        recover="none",
        explain_loss=True,
        calibration=str(home / "calib.npz"),
        out=home / "out",
    )
    return home / "out"


def test_layers_of_low_rank_are_two_and_the_plan_and_the_report_say_so(folder: Path) -> None:
    plan, report = Plan.load(folder), Report.load(folder)
    assert plan.ranks
    assert json.loads((folder / "plan.json").read_text())["ranks"] == plan.ranks
    assert Plan.from_json(plan.to_json()) == plan
    result, dense = graph.load(folder / "model.onnx"), graph.load(folder / "dense.onnx")
    names = [str(n.name) for n in result.graph]
    assert {f"{node}/rank" for node in plan.ranks} <= set(names)
    assert {layer.node for layer in plan.layers} >= {f"{node}/rank" for node in plan.ranks}
    assert {layer.node: layer.precision for layer in report.layers if "+r" in layer.precision} == {
        node: f"fp32+r{rank}" for node, rank in plan.ranks.items()
    }
    assert "low rank" in {part.taken_back for part in report.losses}
    x = samples(512)[:1]
    (wanted,), (got,) = (OnnxRuntime().load(m).run({"x": x}) for m in (dense, result))
    assert np.square(got - wanted).mean() < 0.01 * wanted.var()


def test_the_prediction_is_that_of_the_delivered_graph(folder: Path) -> None:
    report = Report.load(folder)
    assert report.predicted is not None
    found = predict(folder / "model.onnx", "orin", precision="fp32").latency_ms
    assert report.predicted.result_ms == pytest.approx(found, rel=0.05)


def test_another_value_is_refused(folder: Path, tmp_path: Path) -> None:
    home = folder.parent
    with pytest.raises(UsageError, match="--rank '8': expected auto or none"):
        edgeprune.compile(home / "net.onnx", "orin", calibration=str(home / "calib.npz"), rank="8", out=tmp_path / "o")


def test_a_distillation_trains_both_matrices(folder: Path) -> None:
    pytest.importorskip("torch")
    from edgeprune.distill.student import build_student

    result = graph.load(folder / "model.onnx")
    student = build_student(result, result, Settings(), graph.load(folder / "dense.onnx"))
    assert {"w_first", "w_second"} <= set(student.weights)


def test_a_checkpoint_gets_the_product_of_both_matrices(folder: Path, tmp_path: Path) -> None:
    """Its layer stays one, so that its module can load it."""
    torch = pytest.importorskip("torch")
    from edgeprune.pytorch.apply import apply_plan

    weights = graph.load(folder / "dense.onnx").graph.initializers
    w, b = (v.const_value.numpy() for v in (weights["w"], weights["b"]) if v.const_value is not None)
    torch.save({"fc.weight": torch.tensor(w.T.copy()), "fc.bias": torch.tensor(b)}, tmp_path / "net.pt")
    done = apply_plan(folder / "plan.json", tmp_path / "net.pt")
    assert done.weights == "compiled"
    assert any("layers of low rank (1) stay one layer" in note for note in done.notes)
    after = torch.load(done.file)["fc.weight"].numpy()
    assert after.shape == w.T.shape
    assert np.linalg.matrix_rank(after, tol=1e-3) == Plan.load(folder).ranks["m"]
