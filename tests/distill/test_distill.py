"""A folder is trained: better on held-out samples, same nodes; it can be interrupted; bad input is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import simulation
from edgeprune.calibration import IntermediateOutputs
from edgeprune.errors import BackendError, CalibrationError, ModelError, UsageError
from edgeprune.graph import load, save
from edgeprune.passes.tensorrt import lower_tensorrt
from edgeprune.report import Accuracy, EngineCheck, Report
from edgeprune.support import Progress
from tests.distill.folders import arrays, int8_folder, nodes, pruned_folder
from tests.small_models import build

torch = pytest.importorskip("torch")

from edgeprune.distill import Settings, delivery, distill_folder  # noqa: E402
from edgeprune.executor import convolution  # noqa: E402

QUICK = Settings(steps=40, batch=8, rate=0.01, losses={"kd": 1.0, "feature": 0.5})


class Notes(Progress):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return pruned_folder(tmp_path_factory.mktemp("pruned"))


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return int8_folder(tmp_path_factory.mktemp("int8"))


def changed(before: Path, after: Path) -> set[str]:
    """Names of the initializers that differ; nodes, types and shapes must not."""
    old, new = load(before / "model.onnx"), load(after / "model.onnx")
    assert nodes(old) == nodes(new)
    first, second = arrays(old), arrays(new)
    assert first.keys() == second.keys()
    assert all(first[n].dtype == second[n].dtype and first[n].shape == second[n].shape for n in first)
    return {n for n in first if not np.array_equal(first[n], second[n])}


def test_a_training_that_gains_on_views_alone_is_called_so(
    folder: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = iter((9.0, 14.0))

    def compared(*_: object) -> Accuracy:
        drop = next(drops)
        return Accuracy(
            "fidelity", "top-1 agreement", "%", 100.0, 100.0 - drop, drop, 640, drop_interval=(drop - 3, drop + 3)
        )

    monkeypatch.setattr(delivery, "compare_with_original", compared)
    report = distill_folder(folder[0], folder[1], settings=QUICK, out=tmp_path / "out")
    assert report is not None
    (warning,) = (text for text in report.warnings if "agree less with the original" in text)
    assert warning.endswith(f"(9.00 points were lost, and now 14.00): keep {folder[0]}, or try a --rate below 0.01")


def test_training_gains_and_keeps_every_node(folder: tuple[Path, Path], tmp_path: Path) -> None:
    report = distill_folder(folder[0], folder[1], settings=QUICK, out=tmp_path / "out")
    assert report is not None
    assert report.training is not None
    assert report.training.gained
    assert report.training.steps == 40
    assert not any("agree less with the original" in text for text in report.warnings)
    assert min(p.error for p in report.training.curve) < 0.5 * report.training.curve[0].error
    assert {"w0", "w1", "w2", "w3"} <= changed(folder[0], tmp_path / "out")
    assert Report.load(tmp_path / "out") == report
    assert "held-out output error" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (tmp_path / "out" / "plan.json").read_bytes() == (folder[0] / "plan.json").read_bytes()
    assert not list(tmp_path.glob("*.checkpoint"))


def test_learned_scales_stay_equal_where_they_were(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    settings = replace(QUICK, steps=30, scales="learned", rate=0.02)
    report = distill_folder(quantized[0], quantized[1], settings=settings, out=tmp_path / "out")
    assert report is not None
    assert report.training is not None
    assert report.training.gained
    old, new = (arrays(load(f / "model.onnx")) for f in (quantized[0], tmp_path / "out"))
    moved = {n: new[n] / old[n] for n in changed(quantized[0], tmp_path / "out") if old[n].dtype == np.float32}
    model = load(tmp_path / "out" / "model.onnx")
    scales = {str(n.inputs[1].name) for n in model.graph if n.op_type == "QuantizeLinear"}  # type: ignore[union-attr]
    assert scales & set(moved)
    assert all(0.5 < moved[n] < 2 for n in scales & set(moved))
    for node in model.graph:  # the scale of a bias is that of its activation times those of its weights
        if node.op_type == "Conv":
            x, weight, bias = (str(v.producer().inputs[1].name) for v in node.inputs)  # type: ignore[union-attr]
            np.testing.assert_allclose(new[bias], new[x] * new[weight], rtol=1e-5)
    same = [(a, b) for a in scales for b in scales if old[a] == old[b]]
    assert all(new[a] == new[b] for a, b in same)


def test_a_seed_gives_the_same_weights(folder: tuple[Path, Path], tmp_path: Path) -> None:
    settings = replace(QUICK, steps=6)
    for name in ("one", "two"):
        distill_folder(folder[0], folder[1], settings=settings, out=tmp_path / name)
    assert not changed(tmp_path / "one", tmp_path / "two")


def test_quantized_weights_are_trained_through_their_qdq(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    report = distill_folder(*quantized, settings=QUICK, out=tmp_path / "out")
    assert report is not None
    assert report.training is not None
    assert report.training.gained
    found = changed(quantized[0], tmp_path / "out")
    types = {n: arrays(load(tmp_path / "out" / "model.onnx"))[n].dtype for n in found}
    assert {np.dtype(np.int8), np.dtype(np.int32)} <= set(types.values())
    assert not any(n.endswith(("_scale", "_zero_point")) for n in found)


def test_without_qat_integers_stay(quantized: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing in the model can be trained"):
        distill_folder(*quantized, settings=replace(QUICK, qat=False), out=tmp_path / "out")


def test_norms_are_vectors_alone(folder: tuple[Path, Path], tmp_path: Path) -> None:
    distill_folder(*folder, settings=replace(QUICK, train="norms"), out=tmp_path / "out")
    assert changed(folder[0], tmp_path / "out") == {"b0", "b1", "b2", "b3"}


def test_products_of_small_matrices_are_merged(folder: tuple[Path, Path], tmp_path: Path) -> None:
    distill_folder(*folder, settings=replace(QUICK, train="lora", rank=1), out=tmp_path / "out")
    assert changed(folder[0], tmp_path / "out") == {"w0", "w1", "w2", "w3"}
    old, new = (arrays(load(f / "model.onnx"))["w2"] for f in (folder[0], tmp_path / "out"))
    assert np.linalg.matrix_rank((new - old).reshape(len(old), -1), tol=1e-5) == 1


def test_two_of_four_stays(folder: tuple[Path, Path], tmp_path: Path) -> None:
    sparse = shutil.copytree(folder[0], tmp_path / "sparse")
    model = load(sparse / "model.onnx")
    weight = arrays(model)["w2"].copy()
    weight[:, ::2] = 0
    model.graph.initializers["w2"].const_value = ir.Tensor(weight, name="w2")
    save(model, sparse / "model.onnx")
    distill_folder(sparse, folder[1], settings=QUICK, out=tmp_path / "out")
    after = arrays(load(tmp_path / "out" / "model.onnx"))["w2"]
    assert not after[:, ::2].any()
    assert not np.array_equal(after, weight)


def test_the_start_is_returned_where_nothing_is_gained(folder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def loss(outputs, inputs, places):\n    return (outputs['logits'] - 1e3).abs().mean()\n"
    )
    settings = replace(QUICK, steps=4, rate=0.5, losses={}, labels=f"{tmp_path / 'own.py'}:loss")
    report = distill_folder(*folder, settings=settings, out=tmp_path / "out")
    assert report is not None
    assert report.training is not None
    assert not report.training.gained
    assert "gained nothing" in report.outcome.reason
    assert not changed(folder[0], tmp_path / "out")


def test_what_was_said_of_the_old_weights_is_left_out(folder: tuple[Path, Path], tmp_path: Path) -> None:
    old = shutil.copytree(folder[0], tmp_path / "old")
    (old / "model.engine").write_bytes(b"an engine of the old weights")
    scored = Accuracy("evaluation", "mAP", "%", 70.0, 65.0, 5.0)
    report = replace(
        Report.load(old),
        engine=EngineCheck("trtexec", 8, (), scored),
        warnings=("on the device the engine loses 5.00 points, its simulation here 0.50", "something else"),
    )
    (old / "report.json").write_text(report.to_json())
    found = distill_folder(old, folder[1], settings=replace(QUICK, steps=2), out=tmp_path / "out")
    assert found is not None
    assert found.engine is None
    assert not (tmp_path / "out" / "model.engine").exists()
    assert "something else" in found.warnings
    assert any(text.startswith("model.engine has the weights from before the training") for text in found.warnings)
    assert not any("on the device the engine loses" in text for text in found.warnings)


def test_a_teacher_that_is_not_the_model_as_it_came_is_named(folder: tuple[Path, Path], tmp_path: Path) -> None:
    given = shutil.copytree(folder[0], tmp_path / "given")
    plan = json.loads((given / "plan.json").read_text())
    (given / "plan.json").write_text(json.dumps(plan | {"embedding": {"channels": 64, "kept": 48}}))
    report = distill_folder(given, folder[1], settings=replace(QUICK, steps=1), out=tmp_path / "out")
    assert report is not None
    assert any("the teacher, from which channels of the residual stream have left" in w for w in report.warnings)


def test_a_loss_that_is_no_number_stops_with_its_step(folder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def loss(outputs, inputs, places):\n    return outputs['logits'].sum() * float('nan')\n"
    )
    settings = replace(QUICK, labels=f"{tmp_path / 'own.py'}:loss")
    with pytest.raises(ModelError, match="the loss is nan at step 1: nothing was written"):
        distill_folder(*folder, settings=settings, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_of_the_user_are_found_by_position(folder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np, torch\n"
        f"data = np.load({str(folder[1])!r})['images']\n"
        "def loss(outputs, inputs, places):\n"
        "    assert np.array_equal(data[places], inputs['images'].numpy())\n"
        "    return torch.nn.functional.cross_entropy(outputs['logits'], torch.zeros(len(places), dtype=torch.long))\n"
    )
    settings = replace(QUICK, labels=f"{tmp_path / 'own.py'}:loss", augment=False, losses={}, steps=3, micro_batch=3)
    report = distill_folder(*folder, settings=settings, out=tmp_path / "out")
    assert report is not None


SLOW = """
import pathlib, time, torch
calls = 0
def loss(outputs, inputs, places):
    global calls
    calls += 1
    marker = pathlib.Path({marker!r})
    if calls == 6 and not marker.exists():
        marker.write_text("here")
        time.sleep(600)
    return outputs["logits"].square().mean() * 0
"""


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_training_goes_on(kind: int, folder: tuple[Path, Path], tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "own.py").write_text(SLOW.format(marker=str(marker)))
    flags = [
        "--steps",
        "12",
        "--batch",
        "8",
        "--rate",
        "0.01",
        "--labels",
        f"{tmp_path / 'own.py'}:loss",
        "--seed",
        "3",
    ]
    command = [sys.executable, "-m", "edgeprune", "distill", str(folder[0]), "--data", str(folder[1]), *flags]
    command += ["-o", str(tmp_path / "out")]
    # A shell that runs tests in the background lets its children ignore Ctrl-C.
    first = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    for _ in range(2400):
        if marker.exists() or first.poll() is not None:
            break
        time.sleep(0.05)
    assert first.poll() is None
    os.kill(first.pid, kind)
    first.wait(60)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.checkpoint").is_file()
    second = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert second.returncode == 0, second.stderr
    assert "going on at step" in second.stderr + second.stdout
    assert Report.load(tmp_path / "out").training.steps == 12  # type: ignore[union-attr]
    assert not (tmp_path / "out.checkpoint").exists()


def test_a_damaged_checkpoint_is_said(folder: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out.checkpoint").write_bytes(b"not a checkpoint")
    told = Notes()
    distill_folder(*folder, settings=replace(QUICK, steps=2), out=tmp_path / "out", progress=told)
    assert any("is damaged: training starts anew" in text for text in told.notes)


def test_two_processes_do_as_one_with_twice_the_batch(folder: tuple[Path, Path], tmp_path: Path) -> None:
    flags = ["--steps", "5", "--rate", "0.005", "--loss", "kd", "--no-augment", "--replays", "0", "--no-half"]
    ask = ["distill", str(folder[0]), "--data", str(folder[1]), *flags]
    two = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "edgeprune",
    ]
    two += [*ask, "--batch", "4", "-o", str(tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    one = [sys.executable, "-m", "edgeprune", *ask, "--batch", "8", "-o", str(tmp_path / "one")]
    subprocess.run(one, capture_output=True, text=True, timeout=200, check=True)
    first, second = (arrays(load(tmp_path / name / "model.onnx")) for name in ("one", "two"))
    start = arrays(load(folder[0] / "model.onnx"))
    for name, array in first.items():
        np.testing.assert_allclose(second[name], array, rtol=1e-4, atol=1e-5)
    assert not np.array_equal(first["w1"], start["w1"])
    assert Report.load(tmp_path / "two").training.batch == 8  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["dense.onnx", "plan.json", "report.json"])
def test_a_folder_without_one_of_its_files_is_refused(name: str, folder: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(folder[0], tmp_path / "other")
    (other / name).unlink()
    with pytest.raises(UsageError, match=f"has no {name}: give the folder that `compile` or `prune` wrote"):
        distill_folder(other, folder[1], settings=QUICK, out=tmp_path / "out")


def test_a_plan_of_another_model_is_refused(folder: tuple[Path, Path], tmp_path: Path) -> None:
    other = shutil.copytree(folder[0], tmp_path / "other")
    plan = json.loads((other / "plan.json").read_text(encoding="utf-8"))
    plan["groups"][0]["size"] += 1
    (other / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    with pytest.raises(UsageError, match=r"is the plan of another model than .*dense\.onnx"):
        distill_folder(other, folder[1], settings=QUICK, out=tmp_path / "out")


def test_an_operator_that_is_not_in_the_table_is_refused_before_anything_starts(
    folder: tuple[Path, Path], tmp_path: Path
) -> None:
    other = shutil.copytree(folder[0], tmp_path / "other")
    text = "g (float[n, 3, 16, 16] images) => (float[n, 3] logits) { logits = Det (images) }"
    save(build(text), other / "dense.onnx")
    with pytest.raises((UsageError, ModelError)):
        distill_folder(other, folder[1], settings=QUICK, out=tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


def test_data_of_another_shape_is_refused(folder: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "small.npz", images=np.zeros((8, 1, 16, 16), np.float32))
    with pytest.raises(CalibrationError, match="images"):
        distill_folder(folder[0], str(tmp_path / "small.npz"), settings=QUICK, out=tmp_path / "out")


def test_random_numbers_teach_nothing(folder: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="random numbers teach nothing"):
        distill_folder(folder[0], "random", settings=QUICK, out=tmp_path / "out")


def test_a_gpu_that_is_not_there(folder: tuple[Path, Path], tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BackendError, match="PyTorch finds no CUDA GPU here"):
        distill_folder(*folder, settings=replace(QUICK, device="cuda"), out=tmp_path / "out")


@pytest.mark.parametrize(("most", "advice"), [(5, "--micro-batch 4 fits"), (0, "not even --micro-batch 1 fits")])
def test_lack_of_memory_says_which_micro_batch_fits(
    most: int, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = pruned_folder(tmp_path)
    plain = torch.nn.functional.conv2d

    def conv2d(x, *rest):
        if torch.is_grad_enabled() and len(x) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8000000000 bytes.")
        return plain(x, *rest)

    monkeypatch.setitem(convolution._CONV, 2, conv2d)
    with pytest.raises(BackendError, match=f"^memory ran out while training: {advice}$"):
        distill_folder(folder, data, settings=replace(QUICK, batch=16), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_model_for_tensorrt_is_trained_in_float32_and_stays_in_float16(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = pruned_folder(tmp_path)
    plain = load(folder / "model.onnx")
    names = {str(n.name): "fp16" for n in plain.graph}
    names["node_4"] = precision  # the last convolution: others have too few channels for INT8
    (images,) = np.load(data).values()
    inner = [str(o.name) for n in plain.graph for o in n.outputs]
    seen = IntermediateOutputs(plain, ["images", *inner]).run({"images": images})
    ranges = {name: (float(x.min()), float(x.max())) for name, x in seen.items()}
    save(lower_tensorrt(plain, names, ranges, target_versions=("10.3",)), folder / "model.onnx")
    (folder / "report.json").write_text(replace(Report.load(folder), target="orin").to_json())
    simulated, load_simulated = [], simulation.load
    monkeypatch.setattr(simulation, "load", lambda model: simulated.append(model) or load_simulated(model))
    report = distill_folder(folder, data, settings=QUICK, out=tmp_path / "out")
    assert report is not None
    assert report.training is not None
    assert report.training.gained
    assert len(simulated) == 2  # onnxruntime would compute both in another way than TensorRT
    before, after = load(folder / "model.onnx"), load(tmp_path / "out" / "model.onnx")
    assert nodes(before) == nodes(after)
    types = [{n: x.dtype for n, x in arrays(m).items()} for m in (before, after)]
    assert types[0] == types[1]
    changed = {n for n, x in arrays(before).items() if not np.array_equal(x, arrays(after)[n])}
    assert {types[0][n] for n in changed} >= {np.dtype(np.float16)} | (
        {np.dtype(np.int8)} if precision == "int8" else set()
    )
