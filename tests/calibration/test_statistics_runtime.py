"""Statistics in PyTorch equal those of onnxruntime; what PyTorch lacks is run by onnxruntime, and said."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import OnnxRuntime
from edgeprune.build import Plan
from edgeprune.calibration import (
    IntermediateOutputs,
    PartialRuns,
    StatisticsRuntime,
    check_statistics_device,
    statistics_on,
)
from edgeprune.compiler import compile_model, prune_model
from edgeprune.errors import BackendError, UsageError
from edgeprune.graph import load, save, to_bytes
from edgeprune.latency import SizeLimit
from edgeprune.support import Progress
from tests.small_models import SMALL_CLASSIFIER, build, normal

IMAGES = np.random.default_rng(0).standard_normal((24, 3, 16, 16)).astype(np.float32)


def network() -> ir.Model:
    weights = {"w0": normal(16, 3, 3, 3), "w1": normal(32, 16, 3, 3), "w2": normal(32, 16), "w3": normal(16, 5)}
    return build(SMALL_CLASSIFIER, **weights, b0=normal(16), b1=np.zeros(32), b2=normal(16), b3=normal(5))


def unlike(a: Any, b: Any) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


@pytest.fixture
def notes() -> Iterator[list[str]]:
    pytest.importorskip("torch")
    found: list[str] = []
    with statistics_on("torch", found.append):
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(network(), tmp_path / "net.onnx")
    np.savez(tmp_path / "images.npz", x=IMAGES)
    return tmp_path


@pytest.mark.parametrize("serialized", [False, True])
def test_outputs_are_those_of_onnxruntime(serialized: bool, notes: list[str]):
    model = to_bytes(network()) if serialized else network()
    (found,) = StatisticsRuntime().load(model).run({"x": IMAGES})
    (wanted,) = OnnxRuntime().load(model).run({"x": IMAGES})
    assert found.dtype == wanted.dtype
    assert unlike(found, wanted) <= 1e-4
    assert not np.array_equal(found, wanted)  # it was another library


def test_inner_values_and_changed_copies_are_those_of_onnxruntime(notes: list[str]):
    dense, changed = network(), network()
    weight = changed.graph.initializers["w2"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * 0.5, name="w2")  # type: ignore[union-attr]
    feeds = [{"x": IMAGES[:12]}, {"x": IMAGES[12:]}]
    here = IntermediateOutputs(dense, ["a", "h"]).run(feeds[0]), PartialRuns(dense, feeds, 1).outputs(changed)
    with statistics_on("cpu", print):
        there = IntermediateOutputs(dense, ["a", "h"]).run(feeds[0]), PartialRuns(dense, feeds, 1).outputs(changed)
    assert here[0].keys() == there[0].keys()
    assert max(unlike(here[0][n], there[0][n]) for n in here[0]) <= 1e-4
    assert unlike(here[1][0], there[1][0]) <= 1e-4


def test_integers_have_the_type_of_the_graph(notes: list[str]):
    model = build("g (float[n, 4] x) => (uint8[n, 4] q, int64[n] i) <float s = {0.1}, uint8 z = {3}> "
                  "{ q = QuantizeLinear (x, s, z)  i = ArgMax <axis = 1, keepdims = 0> (x) }")  # fmt: skip
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    for found, wanted in zip(StatisticsRuntime().load(model).run({"x": x}), OnnxRuntime().load(model).run({"x": x}),
                             strict=True):  # fmt: skip
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)


def test_a_network_with_an_operator_that_pytorch_lacks_is_run_by_onnxruntime_and_told():
    pytest.importorskip("torch")
    told: list[str] = []
    model = build("g (float[n, 4, 4] x) => (float[n] y) { a = Relu (x)  y = Det (a) }")
    x = np.random.default_rng(2).standard_normal((2, 4, 4)).astype(np.float32)
    with statistics_on("torch", told.append):
        (found,) = StatisticsRuntime().load(model).run({"x": x})
        StatisticsRuntime().load(network()).run({"x": IMAGES})
    np.testing.assert_array_equal(found, OnnxRuntime().load(model).run({"x": x})[0])
    (sentence,) = told
    assert sentence.startswith("onnxruntime computed 1 of 2 networks of the statistics: the operator Det of node")


def test_the_same_cut_and_weights_are_chosen(folder: Path):
    pytest.importorskip("torch")
    plans, models = [], []
    for device in ("cpu", "torch"):
        out = folder / device
        prune_model(folder / "net.onnx", size=SizeLimit(0.5, None), calibration=str(folder / "images.npz"), out=out,
                    stats_device=device)  # fmt: skip
        plans.append(Plan.load(out).groups)
        models.append({n: v.const_value.numpy() for n, v in load(out / "model.onnx").graph.initializers.items()})  # type: ignore[union-attr]
    assert plans[0] == plans[1]
    assert models[0].keys() == models[1].keys()
    assert max(unlike(models[1][n], models[0][n]) for n in models[0] if models[0][n].dtype == np.float32) <= 1e-3


def test_a_device_that_is_not_there_is_refused_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UsageError, match=r"^--stats-device gpu: expected cpu, torch or cuda$"):
        check_statistics_device("gpu")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for run in (
        lambda: compile_model(folder / "net.onnx", "cpu", speedup=2, calibration=str(folder / "images.npz"),
                              out=folder / "out", stats_device="cuda"),
        lambda: prune_model(folder / "net.onnx", 0.5, calibration=str(folder / "images.npz"), out=folder / "out",
                            stats_device="cuda"),
    ):  # fmt: skip
        with pytest.raises(
            BackendError, match=r"^--stats-device cuda needs PyTorch: pip install 'edgeprune\[torch\]'$"
        ):
            run()
    assert not (folder / "out").exists()


class _MemoryError(Exception):
    pass


def stand_in(monkeypatch: pytest.MonkeyPatch, *, has_gpu: bool) -> Any:
    """In place of torch: what `statistics_on` asks it for a GPU."""
    parts = SimpleNamespace(matmul=SimpleNamespace(allow_tf32=True)), SimpleNamespace(allow_tf32=True)
    torch = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: has_gpu), OutOfMemoryError=_MemoryError,
                            backends=SimpleNamespace(cuda=parts[0], cudnn=parts[1]))  # fmt: skip
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    return torch


def test_without_a_gpu_cuda_is_refused(monkeypatch: pytest.MonkeyPatch):
    stand_in(monkeypatch, has_gpu=False)
    with pytest.raises(BackendError, match=r"^--stats-device cuda: PyTorch finds no CUDA GPU here$"):
        check_statistics_device("cuda")


def test_a_gpu_computes_in_float32_and_its_settings_come_back(monkeypatch: pytest.MonkeyPatch):
    torch = stand_in(monkeypatch, has_gpu=True)
    parts = torch.backends.cuda.matmul, torch.backends.cudnn
    with statistics_on("cuda", print):
        assert not any(part.allow_tf32 for part in parts)
    assert all(part.allow_tf32 for part in parts)


def test_progress_notes_are_taken():
    with statistics_on("cpu", Progress().note):
        pass
