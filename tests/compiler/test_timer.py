"""``edgeprune compile`` for a device that is not attached, through the real command line, on a small network."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from edgeprune.backends import tensorrt_rtx
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.build.plan import Plan
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.cli.commands import cli
from edgeprune.compiler import offers
from edgeprune.devices.targets import load_profile
from edgeprune.errors import BudgetError, TargetError, UsageError
from edgeprune.outputs import usefulness
from edgeprune.report.figures import headline
from edgeprune.report.model import Accuracy, Report
from edgeprune.report.pareto_curve import Curve
from tests import residual
from tests.backends.fake_trtexec import KNOWN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("device")
    rng = np.random.default_rng(0)
    residual.save(folder / "net.onnx", rng, pixels=112)
    np.savez(folder / "calib.npz", x=rng.standard_normal((8, 3, 112, 112)).astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    surround(monkeypatch)


def surround(patch: pytest.MonkeyPatch) -> None:
    """Without a TensorRT builder and without learning, which have their own tests."""
    patch.setattr(tensorrt_rtx, "is_installed", lambda: False)
    patch.setattr(TensorRtBuilder, "recover", lambda *args: False)


def run(files: Path, *flags: str, target: str = "orin-nano-8", calib: str | None = None) -> Result:
    calibration = ["--calib", calib or str(files / "calib.npz")]
    return CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), "--target", target, *calibration, *flags])


@pytest.fixture(scope="module")
def compiled(files: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        surround(patch)
        result = run(files, "--speedup", "3", "-o", str(files / "out"))
    assert result.exception is None, result.output
    return files / "out"


def test_the_folder_is_complete(compiled: Path) -> None:
    names = {"dense.onnx", "model.onnx", "plan.json", "report.json", "report.html", "verify.sh", "recipe.toml"}
    assert {f.name for f in compiled.iterdir()} == names


def test_a_prediction_is_not_reported_as_measured(compiled: Path) -> None:
    report = Report.load(compiled)
    assert report.latency is None
    assert report.budget.met is None
    assert report.predicted is not None
    assert report.predicted.source == "analytic"
    error = load_profile("orin-nano-8").error
    assert error is not None
    assert report.predicted.error == error.median


def test_the_profiles_error_is_the_margin_of_the_budget(compiled: Path) -> None:
    predicted = Report.load(compiled).predicted
    assert predicted is not None
    assert predicted.error is not None
    assert predicted.result_ms * (1 + predicted.error) <= predicted.baseline_ms / 3
    assert Plan.load(compiled / "plan.json").predicted_ms == predicted.result_ms


def test_the_model_has_the_precisions_of_the_plan_as_q_dq(compiled: Path) -> None:
    model, plan = onnx.load(compiled / "model.onnx"), Plan.load(compiled / "plan.json")
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    fed_by_dq = {o for n in model.graph.node if n.op_type == "DequantizeLinear" for o in n.output}
    said = {layer.node: layer.precision for layer in plan.layers}
    for node in model.graph.node:
        if node.op_type == "Conv":
            assert (node.input[0] in fed_by_dq) == (said[node.name] == "int8")
            assert said[node.name] == "int8" or kinds[node.output[0]] == onnx.TensorProto.FLOAT16
        if node.op_type == "QuantizeLinear":
            zero = next(t for t in model.graph.initializer if t.name == node.input[2])
            assert zero.data_type == onnx.TensorProto.INT8
            assert not onnx.numpy_helper.to_array(zero).any()


def test_all_batch_sizes_still_run(compiled: Path) -> None:
    runner = OnnxRuntime().load(compiled / "model.onnx")
    for rows in (1, 3):
        assert runner.run({"x": np.zeros((rows, 3, 112, 112), np.float32)})[0].shape == (rows, 10)


def test_the_command_for_the_device_is_written_and_printed(compiled: Path) -> None:
    script = (compiled / "verify.sh").read_text()
    assert "trtexec --onnx=model.onnx" in script
    assert "--stronglyTyped" in script
    assert "--optShapes=x:1x3x112x112" in script
    assert "Predicted, not measured" in script
    assert "edgeprune bench dense.onnx model.onnx --target orin-nano-8 --device ssh:" in script
    subprocess.run(["sh", "-n", str(compiled / "verify.sh")], check=True)
    assert any("trtexec --onnx=model.onnx" in text for text in Report.load(compiled).warnings)


@pytest.mark.skipif(
    shutil.which("trtexec", path="/usr/src/tensorrt/bin:/usr/bin:/bin") is not None, reason="trtexec is here"
)
def test_the_script_names_a_missing_trtexec(compiled: Path) -> None:
    command = ["sh", str(compiled / "verify.sh")]
    done = subprocess.run(command, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False)
    assert done.returncode == 5
    assert "sudo apt install libnvinfer-bin" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_script_replays_a_cuda_graph_only_if_asked_to(compiled: Path, tmp_path: Path) -> None:
    """The prediction is without one."""
    stand_in = tmp_path / "trtexec"
    stand_in.write_text('#!/bin/sh\necho "$@"\n')
    stand_in.chmod(0o755)
    given = {
        flag: subprocess.run(
            ["sh", str(compiled / "verify.sh"), *flag],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for flag in ((), ("--cuda-graph",))
    }
    assert "--useCudaGraph" not in given[()]
    assert given["--cuda-graph",] == [*given[()], "--useCudaGraph"]


OWN = ("--", "--cuda-graph")


def options(script: Path) -> set[str]:
    """Options of the command, with and without a CUDA graph."""
    lines = script.read_text().splitlines()
    command = next(line for line in lines if line.startswith("exec trtexec"))
    both = next(line for line in lines if "--cuda-graph ]" in line).replace(";", "").split()
    words = [*shlex.split(command)[2:-1], *(word for word in both if word.startswith("--") and word not in OWN)]
    return {word.split("=")[0] for word in words}


def test_trtexec_knows_every_option_of_the_script(compiled: Path) -> None:
    assert options(compiled / "verify.sh") <= KNOWN[100300]


def test_a_precision_without_a_budget_only_lowers(files: Path) -> None:
    result = run(files, "--precision", "fp16", "-o", str(files / "half"))
    assert result.exception is None, result.output
    report, plan = Report.load(files / "half"), Plan.load(files / "half" / "plan.json")
    assert report.outcome.variant == "unpruned-fp16"
    assert plan.initializers == {}
    assert {layer.precision for layer in plan.layers if layer.op == "Conv"} == {"fp16"}


def test_a_weakly_typed_target_gets_a_graph_that_it_accepts(files: Path) -> None:
    result = run(files, "--precision", "int8", "-o", str(files / "xavier"), target="xavier-agx")
    assert result.exception is None, result.output
    model = onnx.load(files / "xavier" / "model.onnx")
    assert max(o.version for o in model.opset_import if o.domain == "") <= 17
    given = options(files / "xavier" / "verify.sh")
    assert "--int8" in given
    assert given <= KNOWN[8503] & KNOWN[8601]


def test_a_slower_power_mode_has_a_higher_latency(files: Path) -> None:
    result = run(files, "--precision", "fp16", "--power-mode", "7W", "-o", str(files / "slow"))
    assert result.exception is None, result.output
    fast, slow = Report.load(files / "half").predicted, Report.load(files / "slow").predicted
    assert fast is not None
    assert slow is not None
    assert slow.result_ms > fast.result_ms


def test_an_impossible_budget_names_one_that_can_be_met(files: Path) -> None:
    result = run(files, "--latency-ms", "0.001", "--precision", "fp16", "-o", str(files / "never"))
    assert isinstance(result.exception, BudgetError)
    assert "can be met" in str(result.exception)
    assert "predicted" in str(result.exception)
    assert not (files / "never").exists()


@pytest.mark.parametrize("which", [0, -1])
def test_every_budget_that_a_refusal_offers_can_be_met(files: Path, which: int) -> None:
    refused = str(run(files, "--latency-ms", "0.001", "-o", str(files / "never")).exception)
    assert "without pruning, the best network is predicted at" in refused
    offered = re.findall(r"with [^:]+ [0-9.]+(?: dB|%): --latency-ms ([0-9.]+) can be met", refused)
    assert offered, refused
    result = run(files, "--latency-ms", offered[which], "-o", str(files / f"followed{which}"))
    assert result.exception is None, result.output
    report = Report.load(files / f"followed{which}")
    assert usefulness(report.accuracy) == ()
    assert report.predicted is not None
    assert report.predicted.result_ms <= float(offered[which])


def test_a_result_that_is_of_no_use_needs_consent(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = files / "useless"
    monkeypatch.setattr(offers, "usefulness", lambda accuracy: ("all boxes are elsewhere",))
    result = run(files, "--speedup", "3", "-o", str(out))
    assert isinstance(result.exception, BudgetError)
    assert "all boxes are elsewhere; --accept-loss writes it" in str(result.exception)
    assert not out.exists()
    assert run(files, "--speedup", "3", "--accept-loss", "-o", str(out)).exception is None
    report = Report.load(out)
    assert report.outcome.below_floor == ("all boxes are elsewhere",)
    assert "below the floor of usefulness" in headline(report)


def test_random_numbers_say_nothing_about_the_use_of_a_result(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offers, "usefulness", lambda accuracy: ("all boxes are elsewhere",))
    done = run(files, "--precision", "fp16", "-o", str(files / "random"), calib="random")
    assert done.exception is None, done.output
    assert Report.load(files / "random").outcome.below_floor == ()


def test_a_result_that_is_of_no_use_marks_its_point_and_not_the_curve(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sure = []

    def only_the_first(accuracy: Accuracy) -> tuple[str, ...]:
        sure.append(accuracy)
        return () if accuracy.after >= max(a.after for a in sure) else ("all boxes are elsewhere",)

    monkeypatch.setattr(offers, "usefulness", only_the_first)
    out = files / "floor"
    result = run(files, "--pareto", "1.2,3", "-o", str(out))
    assert result.exception is None, result.output
    kept, refused = Curve.load(out).points
    assert kept.met
    assert kept.folder == "1.2x"
    assert not refused.met
    assert refused.folder is None
    assert "all boxes are elsewhere; --accept-loss writes it" in refused.reason
    assert {f.name for f in out.iterdir()} == {"pareto.json", "recipe.toml", "report.html", "1.2x"}


def test_the_result_does_not_depend_on_what_is_cached(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "cache"))
    for name in ("cold", "warm"):
        assert run(files, "--speedup", "3", "--accept-loss", "-o", str(tmp_path / name)).exception is None
    assert (tmp_path / "cold" / "model.onnx").read_bytes() == (tmp_path / "warm" / "model.onnx").read_bytes()


@pytest.mark.parametrize(
    ("flags", "target", "error", "reason"),
    [
        (["--sparsity", "2:4"], "xavier-agx", UsageError, "no 2:4 sparse tensor cores"),
        (["--sparsity", "2:4", "--precision", "fp32"], "orin", UsageError, "no sparse float32 kernels"),
        (["--power-mode", "99W"], "orin", TargetError, "no power mode '99W'"),
        ([], "nano", TargetError, "need 8.5 or newer"),
    ],
)
def test_unsupported_flags_are_refused_before_any_work(
    files: Path, flags: list[str], target: str, error: type[UsageError], reason: str
) -> None:
    result = run(files, *flags, target=target)
    assert isinstance(result.exception, error)
    assert reason in str(result.exception)


def test_a_curve_is_predicted_if_no_device_is_attached(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    result = run(files, "--pareto", "1.5,3,1000", "-o", str(out))
    assert result.exception is None, result.output
    assert "ms predicted" in result.output
    curve = Curve.load(out)
    assert [p.met for p in curve.points] == [True, True, False]
    assert "can't be met" in curve.points[-1].reason
    for point in curve.points[:2]:
        report = Report.load(out / str(point.folder))
        assert report.latency is None
        assert report.predicted is not None
        assert (point.latency_ms, point.speedup) == (None, None)
        assert point.predicted_ms == report.predicted.result_ms
        assert report.predicted.baseline_ms / report.predicted.result_ms >= point.asked
        assert (out / str(point.folder) / "verify.sh").exists()
    assert curve.points[0].predicted_ms >= curve.points[1].predicted_ms
    assert "not attached" in curve.device


def test_a_point_of_a_curve_is_equal_to_a_compile_for_it_alone(files: Path, compiled: Path, tmp_path: Path) -> None:
    result = run(files, "--pareto", "1.5,3", "-o", str(tmp_path / "curve"))
    assert result.exception is None, result.output
    for name in ("model.onnx", "plan.json"):
        assert (tmp_path / "curve" / "3x" / name).read_bytes() == (compiled / name).read_bytes()
