"""``edgeprune compile`` through the real command line, on a small convolutional network."""

import json
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import edgeprune
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build.plan import Plan
from edgeprune.cli.commands import cli
from edgeprune.compiler import cpu_session
from edgeprune.latency import cpu_model
from edgeprune.report.model import Report
from tests import residual
from tests.quick_timing import time_quickly


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compile")
    rng = np.random.default_rng(0)
    residual.save(folder / "net.onnx", rng)
    images = rng.standard_normal((48, 3, 48, 48)).astype(np.float32)
    np.savez(folder / "calib.npz", x=images)
    scores = OnnxRuntime().load(folder / "net.onnx").run({"x": images})[0]
    np.savez(folder / "eval.npz", x=images, labels=scores.argmax(1))
    return folder


def compile_it(files: Path, *flags: str, code: int = 0) -> str:
    result = CliRunner().invoke(
        cli, ["compile", str(files / "net.onnx"), "--target", "cpu", *flags], catch_exceptions=True
    )
    if code == 0:
        assert result.exception is None, result.output
    return result.output


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPRUNE_CACHE", str(tmp_path_factory.mktemp("cache")))
        time_quickly(patch)
        yield


def test_python_takes_what_the_command_line_takes_and_can_repeat_it(
    files: Path, cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    done = edgeprune.compile(files / "net.onnx", "cpu", precision="int8", calibration=str(files / "calib.npz"))
    assert done.recipe is not None
    assert done.recipe["precision"] == "int8"
    assert Plan.load("net.cpu") == Plan.load("net.cpu/plan.json")
    assert Report.load("net.cpu/report.json").recipe == done.recipe
    monkeypatch.chdir("net.cpu")
    assert done.reproduce is not None
    assert done.reproduce == Report.load(".").reproduce
    result = CliRunner().invoke(cli, shlex.split(done.reproduce)[1:])
    assert result.exception is None or result.exit_code == 0, result.output
    assert Path("again/model.onnx").is_file()
    assert edgeprune.prune(str(files / "net.onnx"), 0.5, calibration=files / "calib.npz").command == "prune"
    assert Path("net.pruned/model.onnx").is_file()


@pytest.fixture(scope="module")
def compiled(files: Path, cache) -> Path:
    out = files / "out"
    calib, labels = str(files / "calib.npz"), str(files / "eval.npz")
    budget = ["--speedup", "1.3", "--precision", "fp32"]  # INT8 alone might be fast enough
    compile_it(files, *budget, "--calib", calib, "--eval", labels, "-o", str(out))
    return out


def test_the_folder_is_complete(compiled: Path) -> None:
    assert {f.name for f in compiled.iterdir()} == {
        "dense.onnx",
        "model.onnx",
        "plan.json",
        "recipe.toml",
        "report.json",
        "report.html",
    }


def test_the_report_has_the_measurements(compiled: Path) -> None:
    report = Report.load(compiled)
    assert report.latency is not None
    assert report.budget.met is True
    assert report.latency.speedup.value >= 1.3
    assert report.accuracy is not None
    assert report.accuracy.kind == "evaluation"
    assert report.accuracy.before == 100.0
    (score,) = report.accuracy.outputs
    assert score.kind == "class scores"
    assert 0 <= score.after <= 100
    assert set(report.latency.variants) >= {"fp32"}
    assert report.search is not None
    assert report.search.error_after <= report.search.error_before
    assert report.search.trials >= 1
    assert report.calibration is not None
    assert "48 samples" in report.calibration


def assert_as_planned(folder: Path) -> None:
    plan, model = Plan.load(folder / "plan.json"), onnx.load(folder / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    shapes = {t.name: list(t.dims) for t in model.graph.initializer}
    dense = {t.name: list(t.dims) for t in onnx.load(folder / "dense.onnx").graph.initializer}
    for name, axes in plan.initializers.items():
        for axis, cut in axes.items():
            stored = shapes.get(name) or shapes[f"{name}_quantized"]
            assert stored[axis] == len(cut.kept) <= dense[name][axis]
    is_int8 = {layer.node for layer in plan.layers if layer.precision == "int8"}
    fed_by_dq = {n.name for n in model.graph.node if n.op_type in ("Conv", "Gemm") and "dequantize" in n.input[1]}
    assert fed_by_dq <= is_int8
    assert plan.model_sha256 == Report.load(folder).model.sha256


def test_the_model_is_as_planned(compiled: Path) -> None:
    assert_as_planned(compiled)
    assert Plan.load(compiled / "plan.json").initializers


def test_nothing_is_cut_if_int8_alone_is_fast_enough(files: Path, compiled: Path) -> None:
    out = files / "int8"
    compile_it(files, "--speedup", "0.8", "--calib", str(files / "calib.npz"), "-o", str(out))
    assert_as_planned(out)
    report, plan = Report.load(out), Plan.load(out / "plan.json")
    assert report.budget.met is True
    assert plan.initializers == {}
    assert report.search is None


def test_all_batch_sizes_still_run(compiled: Path) -> None:
    runner = OnnxRuntime().load(compiled / "model.onnx")
    for rows in (1, 5):
        (scores,) = runner.run({"x": np.zeros((rows, 3, 48, 48), np.float32)})
        assert scores.shape == (rows, 10)


def test_a_second_compile_measures_no_block_again(files: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_model, "_measure_variant", lambda *_: pytest.fail("a block was measured again"))
    calib = str(files / "calib.npz")
    compile_it(files, "--precision", "int8", "--calib", calib, "-o", str(files / "again"))
    report = Report.load(files / "again")
    assert report.outcome.variant in ("unpruned-int8", "original")
    plan = json.loads((files / "again" / "plan.json").read_text())
    assert plan["initializers"] == {}


def test_a_second_budget_tries_no_candidates_again(
    files: Path, compiled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_session, "open_joint_trial", lambda *_: pytest.fail("candidates were tried again"))
    out, calib = files / "second", str(files / "calib.npz")
    compile_it(files, "--speedup", "1.4", "--precision", "fp32", "--calib", calib, "-o", str(out))
    report = Report.load(out)
    assert report.budget.met is True
    assert report.search is None
    assert_as_planned(out)


def test_an_impossible_budget_exits_4_and_names_the_lowest_latency(files: Path, compiled: Path) -> None:
    from click.testing import CliRunner

    from edgeprune.errors import BudgetError

    arguments = ["compile", str(files / "net.onnx"), "--target", "cpu", "--speedup", "1000"]
    result = CliRunner().invoke(cli, [*arguments, "--calib", str(files / "calib.npz"), "-o", str(files / "never")])
    assert isinstance(result.exception, BudgetError)
    assert result.exception.exit_code == 4
    refused = str(result.exception)
    assert "x as fast as the original" in refused
    assert "without pruning, the best network was measured at" in refused
    assert "can be met" in refused
    assert "predicted" not in refused
    assert not (files / "never").exists()
    assert not [f for f in files.iterdir() if f.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--speedup", "2"], "needs calibration data"),
        (["--precision", "fp16", "--calib", "random"], "has no fp16"),
        (["--sparsity", "2:4", "--calib", "random"], "gains nothing from 2:4"),
    ],
)
def test_contradicting_flags_are_refused_before_any_work(files: Path, flags: list[str], reason: str) -> None:
    from click.testing import CliRunner

    from edgeprune.errors import UsageError

    result = CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), "--target", "cpu", *flags])
    assert isinstance(result.exception, UsageError)
    assert reason in str(result.exception)
