"""``compile`` and ``profile`` on an attached device: a real sshd on loopback, with a fake trtexec.

It computes its latencies from the sizes and types of the weights, so that they differ from the predictions.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import CliRunner, Result

from edgeprune import backends, graph
from edgeprune.backends import tensorrt_rtx
from edgeprune.backends.device import open_device
from edgeprune.build.plan import Plan
from edgeprune.build.tensorrt_builder import TensorRtBuilder
from edgeprune.cli.commands import cli
from edgeprune.compiler import open_session, profile_device
from edgeprune.errors import BackendError, BudgetError, ProfileError, UsageError
from edgeprune.latency import bench
from edgeprune.latency.device_profile import DeviceProfile
from edgeprune.quantization.two_four import is_two_of_four
from edgeprune.report.model import Report
from edgeprune.report.pareto_curve import Curve
from tests import residual
from tests.backends.loopback import MISSING, Loopback, loopback

FAKE_TRTEXEC = Path(__file__).parents[1] / "backends" / "fake_trtexec.py"

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed (openssh-server)")


@pytest.fixture(scope="module")
def device() -> Iterator[Loopback]:
    """A machine with a fake trtexec 10.3 in its PATH, over a real SSH connection."""
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, loopback(Path(folder)) as running:
        install(running)
        yield running


@pytest.fixture(scope="module")
def second(device: Loopback) -> Iterator[Loopback]:
    """Another board of the kind."""
    with tempfile.TemporaryDirectory(prefix="sshd-") as folder, loopback(Path(folder), device) as running:
        install(running)
        yield running


def install(machine: Loopback, number: int = 100300) -> None:
    """A fake trtexec, whose faults and builds are in files of the machine's folder, and what else it needs."""
    folder = machine.folder
    log = f"case \"$*\" in *--saveEngine*) echo built >>'{folder}/builds';; esac"
    how = f"FAKE_MISCOMPILE=$(cat '{folder}/wrong' 2>/dev/null) FAKE_SLOW_INT8=$(cat '{folder}/slow' 2>/dev/null)"
    run = f"{how} FAKE_BUILDS='{folder}/counter' FAKE_TIMES=weights"
    machine.program("trtexec", f"{log}\n{run} exec '{sys.executable}' '{FAKE_TRTEXEC}' {number} \"$@\"")
    machine.program("nvpmodel", "echo 'NV Power Mode: 25W'")
    modules = Path(FAKE_TRTEXEC).with_name("stand_in")
    machine.program("python3", f"PYTHONPATH='{modules}' exec '{sys.executable}' \"$@\"")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on-device")
    rng = np.random.default_rng(0)
    # Multiples of 32, as INT8 with 2:4 needs them.
    residual.save(folder / "net.onnx", rng, widths={48: 64, 96: 128})
    np.savez(folder / "calib.npz", x=rng.standard_normal((8, 3, 48, 48)).astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def surroundings(device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    surround(monkeypatch, device, tmp_path / "cache")


def surround(patch: pytest.MonkeyPatch, device: Loopback, cache: Path) -> None:
    reached = functools.partial(open_device, ssh_config=device.config)
    patch.setattr(open_session, "open_device", reached)
    patch.setattr(profile_device, "open_device", reached)
    patch.setattr(bench, "open_device", reached)
    patch.setattr(backends, "open_device", reached)  # where gate looks for it
    patch.setattr(tensorrt_rtx, "is_installed", lambda: False)
    patch.setattr(TensorRtBuilder, "recover", lambda *args: False)
    patch.setenv("EDGEPRUNE_CACHE", str(cache))


@pytest.fixture(scope="module")
def measured(files: Path, device: Loopback) -> Iterator[Path]:
    """A cache folder with a complete profile, and the profile in ``profile.json`` beside the model."""
    with pytest.MonkeyPatch.context() as patch:
        surround(patch, device, files / "cache")
        result = run_profile(files, device, files / "started.json", "--minutes", "1e-9")
        assert result.exception is None, result.output
        result = run_profile(files, device, files / "profile.json")
        assert result.exception is None, result.output
        yield files / "cache"


def run_compile(files: Path, *flags: str) -> Result:
    fixed = ["--target", "orin-nano-8", "--calib", str(files / "calib.npz")]
    return CliRunner().invoke(cli, ["compile", str(files / "net.onnx"), *fixed, *flags])


def run_profile(files: Path, device: Loopback, out: Path, *flags: str) -> Result:
    fixed = ["--target", "orin-nano-8", "--device", device.url, "-o", str(out)]
    return CliRunner().invoke(cli, ["profile", str(files / "net.onnx"), *fixed, *flags])


def builds(device: Loopback) -> int:
    file = device.folder / "builds"
    return len(file.read_text().splitlines()) if file.exists() else 0


def test_a_budget_is_met_as_measured_on_the_device(files: Path, device: Loopback, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_compile(files, "--speedup", "3", "--device", device.url, "-o", str(out))
    assert result.exception is None, result.output
    report, plan = Report.load(out), Plan.load(out / "plan.json")
    assert report.latency is not None
    assert report.budget.met is True
    assert report.latency.speedup.value >= 3
    assert report.latency.runtime == "tensorrt 10.3.0"
    assert report.latency.threads is None
    assert "25W" in report.latency.device
    assert plan.baseline_ms == report.latency.baseline.median_ms
    assert (out / "model.engine").read_bytes().startswith(b"fake engine")
    assert not (out / "verify.sh").exists()
    assert report.engine is not None
    assert report.engine.fits
    assert report.engine.by == "TensorRT's Python module"
    assert report.engine.accuracy is not None
    assert report.accuracy is not None
    assert report.engine.accuracy.drop == pytest.approx(report.accuracy.drop, abs=0.5)
    assert report.predicted is not None
    assert report.predicted.source == "analytic"
    # The loop corrected the prediction of the result, so it is much better than that of the original.
    off = [
        abs(math.log(predicted_ms / measured.median_ms))
        for predicted_ms, measured in (
            (report.predicted.result_ms, report.latency.result),
            (report.predicted.baseline_ms, report.latency.baseline),
        )
    ]
    assert off[0] < off[1] / 2


def test_a_wrong_engine_is_written_only_if_that_is_accepted(files: Path, device: Loopback, tmp_path: Path) -> None:
    """TensorRT issue 4854: an engine that is built and fast, and wrong; nothing but running it shows that."""
    flags = ["--precision", "fp16", "--device", device.url, "-o", str(tmp_path / "out")]
    (device.folder / "wrong").write_text("Conv_4")
    try:
        result = run_compile(files, *flags)
    finally:
        (device.folder / "wrong").unlink()
    assert isinstance(result.exception, BackendError)
    assert "the engine's output 'y' is not what its graph computes" in str(result.exception)
    assert "wrong from node 'Conv_4' (Conv) on" in str(result.exception)
    assert "--accept-loss writes the result all the same" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_bench_runs_the_engine_on_samples(files: Path, device: Loopback) -> None:
    flags = ["--target", "orin-nano-8", "--device", device.url, "--calib", str(files / "calib.npz"), "--seconds", "1"]
    arguments = ["bench", str(files / "net.onnx"), *flags, "-q"]
    result = CliRunner().invoke(cli, [*arguments, "--json"])
    assert result.exception is None, result.output
    (engine,) = json.loads(result.stdout)["engines"].values()
    assert [output["fits"] for output in engine["outputs"]] == [True]
    assert engine["samples"] == 8
    (device.folder / "wrong").write_text("c2")
    try:
        wrong = CliRunner().invoke(cli, arguments)
    finally:
        (device.folder / "wrong").unlink()
    assert isinstance(wrong.exception, BackendError)
    assert "net.onnx: the engine's output 'y' is not what its graph computes" in str(wrong.exception)
    refused = CliRunner().invoke(cli, ["bench", str(files / "net.onnx"), "--calib", "random", "-q"])
    assert isinstance(refused.exception, UsageError)


def test_bench_on_two_boards_gives_the_median_and_names_a_board_that_differs(
    files: Path, device: Loopback, second: Loopback
) -> None:
    boards = ["--device", device.url, "--device", second.url]
    arguments = ["bench", str(files / "net.onnx"), "--target", "orin-nano-8", *boards, "--seconds", "1", "-q", "--json"]
    (device.folder / "counter").write_text("0")
    (second.folder / "counter").write_text("4")
    try:
        result = CliRunner().invoke(cli, [*arguments, "--builds", "2"])
    finally:
        (device.folder / "counter").unlink()
        (second.folder / "counter").unlink()
    assert result.exception is None, result.output
    found = json.loads(result.stdout)
    (samples,) = found["samples"].values()
    assert [(s["board"], s["build"]) for s in samples] == [(b, n) for b in (device.url, second.url) for n in (0, 1)]
    ms = [s["latency"]["median_ms"] for s in samples]
    assert [round(one / ms[0], 3) for one in ms] == [1.0, 1.01, 1.04, 1.05]
    install(second, 110000)
    try:
        refused = CliRunner().invoke(cli, arguments)
    finally:
        install(second)
    assert isinstance(refused.exception, UsageError)
    assert f"{second.url} (TensorRT: 11.0.0 instead of 10.3.0) differs" in str(refused.exception)


def test_compile_and_gate_keep_every_build_and_board(
    files: Path, device: Loopback, second: Loopback, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "pinned.cache"
    limits = ["--max-memory-mb", "50", "--p99", "40"]
    flags = ["--precision", "fp16", "--timing-cache", str(cache), "--builds", "2", "--device", device.url, *limits]
    result = run_compile(files, *flags, "-o", str(out))
    assert result.exception is None, result.output
    report = Report.load(out)
    assert report.latency is not None
    assert [(run.build, run.part) for run in report.latency.samples] == [(0, 0), (1, 1)]
    assert report.latency.builds == 2
    assert cache.read_bytes() == b"fake timing cache"
    assert report.operating_point["timing cache"] == hashlib.sha256(b"fake timing cache").hexdigest()[:16]
    assert report.memory["result"].mb < report.memory["original"].mb
    assert report.budget.met  # by what was measured: memory as TensorRT says it, and single runs


def test_a_layer_that_is_slower_in_int8_on_the_device_stays_float(
    files: Path, device: Loopback, tmp_path: Path
) -> None:
    """What was measured is kept for other compiles, by the work of the kernels."""
    flags = ["--precision", "int8", "--device", device.url, "--tune-placement", "5"]
    (device.folder / "slow").write_text("Conv_2,Conv_4")
    try:
        result = run_compile(files, *flags, "-o", str(tmp_path / "tuned"))
    finally:
        (device.folder / "slow").unlink()
    assert result.exception is None, result.output
    found = {layer.node: layer.precision for layer in Plan.load(tmp_path / "tuned" / "plan.json").layers}
    # All three are in INT8 where nothing is measured.
    assert [found[node] for node in ("Conv_0", "Conv_2", "Conv_4")] == ["int8", "fp16", "fp16"]
    (kept,) = (tmp_path / "cache" / "devices").glob("*-placement.json")
    assert [ratio["ratio"] > 1 for ratio in json.loads(kept.read_text())["ratios"].values()].count(True) == 2
    (note,) = [text for text in Report.load(tmp_path / "tuned").warnings if "--tune-placement" in text]
    assert "slower in INT8" in note
    refused = run_compile(files, "--precision", "fp16", *flags[2:])
    assert isinstance(refused.exception, UsageError)


def test_gate_runs_the_engine_again_on_the_device(files: Path, device: Loopback, tmp_path: Path) -> None:
    """The engine of the folder, as it is deployed, on held-out samples and by the user's evaluation."""
    evaluation = tmp_path / "score.py"
    evaluation.write_text(
        "import numpy as np\n"
        "def score(run):\n"
        "    x = np.random.default_rng(3).standard_normal((4, 3, 48, 48)).astype(np.float32)\n"
        "    rows = [np.sign(run({'x': x[i:i + 1]})[0]) for i in range(4)]\n"
        "    return 100 * float(np.mean([r.mean() > -2 for r in rows]))\n"
    )
    out = tmp_path / "out"
    flags = ["--precision", "fp16", "--eval", f"{evaluation}:score", "-o", str(out)]
    result = run_compile(files, *flags, "--device", device.url)
    assert result.exception is None, result.output
    first = Report.load(out).engine
    before = builds(device)
    arguments = ["gate", str(out), "--max-drop", "1", "--device", device.url, "--json"]
    again = CliRunner().invoke(cli, arguments)
    assert again.exception is None, again.output
    checks = {check["name"]: check["verdict"] for check in json.loads(again.stdout)["checks"]}
    assert checks["engine against its graph"] == "pass"
    assert checks["accuracy drop of the engine"] == "pass"
    assert builds(device) == before  # the engine of the folder was run
    assert Report.load(out).engine == first
    # Now the board's software changed, so that the engine is rebuilt, wrongly.
    (out / "model.engine").unlink()
    (device.folder / "wrong").write_text("Conv_4")
    try:
        wrong = CliRunner().invoke(cli, arguments)
    finally:
        (device.folder / "wrong").unlink()
    assert json.loads(wrong.stdout)["verdict"] == "failed"
    found = {check["name"]: check for check in json.loads(wrong.stdout)["checks"]}
    assert "wrong from node 'Conv_4' (Conv) on" in found["engine against its graph"]["detail"]
    alone = CliRunner().invoke(cli, ["gate", str(out), "--max-drop", "1", "--builds", "2"])
    assert isinstance(alone.exception, UsageError)


def test_a_quantized_original_is_timed_in_its_float_form(files: Path, device: Loopback, tmp_path: Path) -> None:
    """TensorRT refuses its unsigned pairs; its float form takes as long as the network before it was quantized."""
    model = graph.load(files / "net.onnx")
    for node in [n for n in model.graph if n.op_type == "Conv"]:
        graph.insert_qdq(model, node.inputs[0], 0.05, 117, ir.DataType.UINT8, consumers=[node])
        graph.dequantized_weight(model, node.inputs[1], 0, consumers=[node])
    graph.save(model, tmp_path / "quantized.onnx")
    fixed = ["--target", "orin-nano-8", "--calib", str(files / "calib.npz"), "--device", device.url]
    found = []
    for number, file in enumerate((files / "net.onnx", tmp_path / "quantized.onnx")):
        out = tmp_path / f"out{number}"
        result = CliRunner().invoke(cli, ["compile", str(file), *fixed, "--precision", "int8", "-o", str(out)])
        assert result.exception is None, result.output
        found.append(Report.load(out))
    baselines = [report.latency.baseline.median_ms for report in found if report.latency is not None]
    assert baselines[0] == pytest.approx(baselines[1], rel=1e-3)
    assert found[1].latency is not None
    assert found[1].latency.speedup.value > 1.1
    assert any("arrived quantized" in warning for warning in found[1].warnings)


def test_a_curve_is_measured_on_the_device(files: Path, device: Loopback, tmp_path: Path) -> None:
    out = tmp_path / "curve"
    result = run_compile(files, "--pareto", "2,3,1000", "--device", device.url, "-o", str(out))
    assert result.exception is None, result.output
    curve = Curve.load(out)
    assert [p.met for p in curve.points] == [True, True, False]
    for point in curve.points[:2]:
        assert point.speedup is not None
        assert point.speedup.value >= point.asked
        assert (out / str(point.folder) / "model.engine").exists()
    assert "25W" in curve.device
    assert curve.runtime == "tensorrt 10.3.0"


def test_a_budget_that_no_measurement_meets_is_refused(files: Path, device: Loopback, tmp_path: Path) -> None:
    result = run_compile(files, "--latency-ms", "0.02", "--device", device.url, "-o", str(tmp_path / "never"))
    assert isinstance(result.exception, BudgetError)
    refused = str(result.exception)
    assert "can't be met" in refused
    assert "without pruning, the best network was measured at" in refused
    assert "predicted" not in refused
    assert not (tmp_path / "never").exists()
    offered = re.findall(r": --latency-ms ([0-9.]+) can be met", refused)
    assert offered, refused
    for k, budget_ms in enumerate(offered):
        followed = tmp_path / f"followed{k}"
        result = run_compile(files, "--latency-ms", budget_ms, "--device", device.url, "-o", str(followed))
        assert result.exception is None, result.output
        assert Report.load(followed).budget.met


def test_a_profile_is_measured_once_and_resumed(
    files: Path, device: Loopback, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not DeviceProfile.load(files / "started.json").complete
    profile = DeviceProfile.load(files / "profile.json")
    assert profile.complete
    assert profile.power_mode == "25W"
    assert profile.versions == {"tensorrt": "10.3.0"}
    assert [n.format for n in profile.networks][:3] == ["original", "fp16", "int8"]
    assert {"fp16+2:4", "int8+2:4"} <= {n.format for n in profile.networks}
    dense = next(n for n in profile.networks if n.format == "fp16")
    assert sum(dense.launch_us.values()) == pytest.approx(dense.latency_us, rel=1e-6)
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(measured))
    before = builds(device)
    assert run_profile(files, device, tmp_path / "again.json").exception is None
    assert builds(device) == before


def test_compile_prefers_measured_latencies(
    files: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(measured))
    result = run_compile(files, "--speedup", "3", "-o", str(tmp_path / "kept"))
    assert result.exception is None, result.output
    kept = Report.load(tmp_path / "kept").predicted
    assert kept is not None
    assert kept.source == "measured"
    original = next(n for n in DeviceProfile.load(files / "profile.json").networks if n.format == "original")
    assert kept.baseline_ms == pytest.approx(original.latency_us / 1e3, rel=1e-6)
    assert kept.error is not None
    assert kept.error < 0.1


def test_2_4_kernels_get_their_measured_latencies(
    files: Path, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEPRUNE_CACHE", str(measured))
    result = run_compile(files, "--precision", "int8", "--sparsity", "2:4", "-o", str(tmp_path / "out"))
    assert result.exception is None, result.output
    predicted = Report.load(tmp_path / "out").predicted
    networks = {n.format: n for n in DeviceProfile.load(files / "profile.json").networks if not n.widths}
    assert predicted is not None
    assert predicted.result_ms == pytest.approx(networks["int8+2:4"].latency_us / 1e3, rel=0.03)
    assert predicted.result_ms < 0.9e-3 * networks["int8"].latency_us
    assert "--sparsity=enable" in (tmp_path / "out" / "verify.sh").read_text()


def test_a_profile_of_another_power_mode_is_refused(files: Path, measured: Path, tmp_path: Path) -> None:
    flags = ["--profile", str(files / "profile.json"), "--power-mode", "7W"]
    result = run_compile(files, *flags, "-o", str(tmp_path / "other"))
    assert isinstance(result.exception, ProfileError)
    assert "power mode" in str(result.exception)


def test_weights_are_2_4_if_asked_for(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run_compile(files, "--sparsity", "2:4", "--precision", "fp16", "-o", str(out))
    assert result.exception is None, result.output
    model, plan = onnx.load(out / "model.onnx"), Plan.load(out / "plan.json")
    stored = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    sparse = {layer.node for layer in plan.layers if layer.sparsity == "2:4"}
    assert sparse
    for node in model.graph.node:
        if node.op_type == "Conv":
            weight = stored[node.input[1]]
            columns = np.moveaxis(weight, 1, -1).reshape(-1, weight.shape[1])
            assert is_two_of_four(columns) == (node.name in sparse)
    assert "--sparsity=enable" in (out / "verify.sh").read_text()


def test_surgery_changes_the_delivered_model(files: Path, device: Loopback, tmp_path: Path) -> None:
    pytest.importorskip("onnx_graphsurgeon")
    script = tmp_path / "surgery.py"
    script.write_text("def rename(graph):\n    graph.outputs[0].name = 'operated'\n")
    flags = ["--precision", "fp16", "--surgery", f"{script}:rename"]
    result = run_compile(files, *flags, "--device", device.url, "-o", str(tmp_path / "out"))
    assert result.exception is None, result.output
    assert [o.name for o in onnx.load(tmp_path / "out" / "model.onnx").graph.output] == ["operated"]
    wrong = run_compile(files, "--precision", "fp16", "--surgery", "no-such-thing", "-o", str(tmp_path / "never"))
    assert isinstance(wrong.exception, UsageError)


def test_profile_needs_a_device(files: Path) -> None:
    result = CliRunner().invoke(cli, ["profile", str(files / "net.onnx"), "--target", "orin"])
    assert isinstance(result.exception, UsageError)
    assert "--device ssh://" in str(result.exception)
    result = CliRunner().invoke(cli, ["profile", "--target", "cpu", "--device", "local"])
    assert isinstance(result.exception, UsageError)


def test_predictions_of_all_models_are_scaled_by_measurements_of_the_built_in_network(
    files: Path, device: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_compile(files, "--precision", "fp16", "-o", str(tmp_path / "before"))
    assert before.exception is None, before.output
    monkeypatch.setattr(profile_device, "RANDOM_WIDTHS", 0)
    flags = ["--target", "orin-nano-8", "--device", device.url, "-o", str(tmp_path / "probe.json")]
    result = CliRunner().invoke(cli, ["profile", *flags])
    assert result.exception is None, result.output
    ratios = DeviceProfile.load(tmp_path / "probe.json").ratios
    assert {"conv fp16", "conv int8", "matmul fp16", "conv fp16+2:4"} <= set(ratios)
    after = run_compile(files, "--precision", "fp16", "-o", str(tmp_path / "after"))
    assert after.exception is None, after.output
    one, two = Report.load(tmp_path / "before"), Report.load(tmp_path / "after")
    assert one.predicted is not None
    assert two.predicted is not None
    assert two.predicted.source == "analytic"
    assert two.predicted.result_ms != one.predicted.result_ms
    assert any("built-in network" in text for text in two.warnings)
