"""The training as a stage of a compile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import OnnxRuntime
from edgeprune.calibration import open_calibration
from edgeprune.compiler import compile_model
from edgeprune.dependency import analyse
from edgeprune.errors import UsageError
from edgeprune.graph import load, save
from edgeprune.report import Report
from edgeprune.support import Progress
from tests.distill.folders import arrays, classifier, images, int8_folder, nodes, pruned_folder

torch = pytest.importorskip("torch")

from edgeprune.build import Plan  # noqa: E402
from edgeprune.distill import Settings, train_built  # noqa: E402
from edgeprune.distill.folder import Networks  # noqa: E402
from edgeprune.distill.stage import open_trainer  # noqa: E402
from edgeprune.distill.student import build_student  # noqa: E402
from edgeprune.distill.workers import Workers  # noqa: E402


def test_a_built_network_is_trained(tmp_path: Path) -> None:
    folder, file = pruned_folder(tmp_path)
    dense, built = load(folder / "dense.onnx"), load(folder / "model.onnx")
    data = open_calibration(str(file), dense)
    kept = analyse(dense).kept(Plan.load(folder).cut)
    settings = Settings(steps=30, batch=8, rate=0.02, losses={"kd": 1.0, "feature": 0.5})
    found = train_built(dense, built, built, kept, data, settings, Progress())
    assert found is not None
    assert found.training.gained
    assert found.training.steps == 30
    assert nodes(found.model) == nodes(built)
    assert set(arrays(found.model)) == set(arrays(built))
    feeds = next(iter(data.batches(16)))
    wanted, before, after = (OnnxRuntime().load(m).run(feeds)[0] for m in (dense, built, found.model))
    assert ((after - wanted) ** 2).mean() < 0.7 * ((before - wanted) ** 2).mean()


def test_weights_start_where_they_were_before_they_were_rounded(tmp_path: Path) -> None:
    folder, _ = int8_folder(tmp_path)
    quantized, floats = load(folder / "model.onnx"), load(folder / "float.onnx")
    found = {}
    for known in (None, floats):
        student = build_student(quantized, quantized, Settings(), known)
        same = arrays(student.written(student.weights))
        assert all(np.array_equal(same[n], a) for n, a in arrays(quantized).items())
        found[known is None] = {n: w.detach().numpy() for n, w in student.weights.items()}
    name = next(n for n in found[True] if n.startswith("w1"))
    assert not np.array_equal(found[False][name], found[True][name])
    exact = floats.graph.initializers["w1"].const_value
    assert exact is not None
    assert (found[False][name] == exact.numpy()).mean() > 0.99


def test_zeros_of_a_sparse_matrix_are_not_taken_from_before_it_was_sparse(tmp_path: Path) -> None:
    folder, _ = int8_folder(tmp_path)
    quantized, floats = load(folder / "model.onnx"), load(folder / "float.onnx")
    name = next(n for n in arrays(quantized) if n.startswith("w1") and arrays(quantized)[n].dtype == np.int8)
    sparse = arrays(quantized)[name].copy()
    sparse[:, ::2] = 0
    quantized.graph.initializers[name].const_value = ir.Tensor(sparse, name=name)
    tiny = floats.graph.initializers["w1"].const_value.numpy().copy()  # type: ignore[union-attr]
    tiny[:, ::2] = 1e-6  # rounds to 0 as well
    floats.graph.initializers["w1"].const_value = ir.Tensor(tiny, name="w1")
    student = build_student(quantized, quantized, Settings(), floats)
    assert not student.weights[name][:, ::2].any()
    assert not student.masks[name][:, ::2].any()


def test_too_few_samples_train_nothing(tmp_path: Path) -> None:
    folder, file = pruned_folder(tmp_path)
    dense, built = load(folder / "dense.onnx"), load(folder / "model.onnx")
    data = open_calibration(str(file), dense).subset(3)
    assert train_built(dense, built, built, {}, data, Settings(steps=1), Progress()) is None


def test_compile_trains_its_result(tmp_path: Path) -> None:
    file = images(tmp_path / "images.npz", 64)
    save(classifier(np.load(file)["images"]), tmp_path / "net.onnx")
    report = compile_model(  # 2:4 in so small a network costs so much that the first steps gain
        tmp_path / "net.onnx",
        "orin",
        precision="int8",
        all_int8=True,
        sparsity="2:4",
        accept_loss=True,
        calibration=str(file),
        recover=0.03,
        out=tmp_path / "out",
    )
    assert report.training is not None
    assert report.training.steps > 0
    assert report.training.curve[-1].step == report.training.steps
    assert report.training.before > 0
    assert "Its weights were trained for" in report.outcome.reason
    assert Report.load(tmp_path / "out").training == report.training
    model = load(tmp_path / "out" / "model.onnx")
    assert any(n.op_type == "DequantizeLinear" for n in model.graph)
    assert float(report.recipe["recover"]) == 0.03


def test_recover_takes_words_or_minutes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--recover soon: expected none, fast, or the minutes of a training, as in 10"):
        compile_model(tmp_path / "net.onnx", "cpu", speedup=2, calibration="random", recover="soon", out=tmp_path / "o")


def test_views_of_several_parts_are_used_again(tmp_path: Path) -> None:
    folder, file = pruned_folder(tmp_path)
    dense, built = load(folder / "dense.onnx"), load(folder / "model.onnx")
    data, kept = open_calibration(str(file), dense), analyse(dense).kept(Plan.load(folder).cut)
    settings = Settings(steps=4, batch=8, micro_batch=4, replays=1, losses={"kd": 1.0}, half=False)
    trainer = open_trainer(Networks(dense, built, kept), data, settings, Progress(), Workers())
    assert trainer.used_once == ""
    found = []
    for trainer.steps in (0, 1, 2):  # the second step uses the view of the first one, and nothing was updated
        loss = trainer.backward(0.0)
        found.append((loss, {n: w.grad.clone() for n, w in trainer.weights.items()}))
    (first, wanted), (second, got), (third, _) = found
    assert second == pytest.approx(first, rel=1e-6)
    assert abs(third - first) > 1e-3 * first
    assert all(torch.allclose(got[n], g, rtol=1e-4, atol=1e-7) for n, g in wanted.items())


def test_it_is_said_why_views_are_used_once(tmp_path: Path) -> None:
    folder, file = pruned_folder(tmp_path)
    dense, built = load(folder / "dense.onnx"), load(folder / "model.onnx")
    data = open_calibration(str(file), dense)
    settings = Settings(steps=1, batch=8, losses={"feature": 1.0})
    kept = analyse(dense).kept(Plan.load(folder).cut)
    trainer = open_trainer(Networks(dense, built, kept), data, settings, Progress(), Workers())
    assert trainer.used_once == "only losses inside the networks are compared"
