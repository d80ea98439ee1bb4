"""Which runtime runs a result on a CPU, and what the report and the folder say about it."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from edgeprune import graph
from edgeprune.calibration import as_spec
from edgeprune.cli.commands import cli
from edgeprune.compiler import open_session
from edgeprune.compiler.opening import Opening, for_tensorrt
from edgeprune.compiler.request import Request
from edgeprune.dependency import open_model
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.search import Goal
from edgeprune.support import Progress
from tests import residual
from tests.models import single
from tests.quick_timing import time_quickly

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
GOAL = Goal(None, None, None, prune=True, quantize=True)


def request(**given: Any) -> Request:
    return Request(Path("net.onnx"), given.pop("target", "cpu"), as_spec("random"), **given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"target": "orin", "runtime": "openvino"}, "target orin has no runtime 'openvino'; it has tensorrt"),
        ({"precision": "bf16"}, "onnxruntime has no bf16 on target cpu; it has fp32, int8"),
        ({"precision": "fp16", "runtime": "openvino"}, "target cpu has no fp16; it has fp32, bf16, int8"),
        ({"runtime": "openvino", "device": "ssh://me@board"}, "openvino is measured in this process only"),
        ({"runtime": "openvino", "sparsity": "2:4"}, "openvino has no sparse kernels"),
        ({"runtime": "openvino", "surgery": "efficient-nms"}, "are for targets with TensorRT"),
    ],
)
def test_flags_that_do_not_fit_the_runtime_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request(**given).check()


def test_a_written_out_layer_norm_is_one_operator_for_tensorrt(tmp_path: Path) -> None:
    """As one operator it is FP16; its square would overflow, and stay in FP32 between Casts."""
    model = single(
        """net (float[batch,5,16] x) => (float[batch,5,16] y) <float two = {2.0}, float e = {0.001}> {
            m = ReduceMean<axes=[-1]>(x) c = Sub(x, m) s = Pow(c, two) v = ReduceMean<axes=[-1]>(s) p = Add(v, e)
            d = Sqrt(p) n = Div(c, d) a = Mul(n, g) b = Add(a, h) t = MatMul(b, w) r = Relu(t) y = MatMul(r, u)
        }""",
        13,
        g=(16,),
        h=(16,),
        w=(16, 64),
        u=(64, 16),
    )
    graph.save(model, tmp_path / "net.onnx")
    opened = open_model(tmp_path / "net.onnx", {}, Progress())
    found = for_tensorrt(opened)
    for form in (found.dense, found.fixed):
        assert [n.op_type for n in form.graph] == ["LayerNormalization", "MatMul", "Relu", "MatMul"]
    assert [g.size for g in found.analysis.groups] == [g.size for g in opened.analysis.groups] == [64]
    assert not graph.open_axes(found.fixed)
    assert graph.open_axes(found.dense)
    assert for_tensorrt(found) is found


def test_each_runtime_of_a_cpu_has_its_precisions() -> None:
    request(runtime="openvino", precision="bf16").check()
    request(runtime="auto", precision="int8").check()
    assert request().runs_on.name == "onnxruntime"
    assert request(runtime="auto").runs_on.on_cpu
    assert not request(target="orin").runs_on.on_cpu


@pytest.mark.parametrize("runtime", [None, "auto", pytest.param("openvino", marks=needs_openvino)])
def test_the_local_cpu_is_measured_in_this_process(monkeypatch: pytest.MonkeyPatch, runtime: str | None) -> None:
    """OpenVINO is no runtime of a device; it was looked for as TensorRT."""

    class OpenedError(Exception):
        pass

    def opening(*args: object) -> None:
        raise OpenedError

    monkeypatch.setattr(open_session, "open_model_and_data", opening)
    monkeypatch.setenv("PATH", "/no/folder")
    with pytest.raises(OpenedError):
        open_session.open_session(request(device="local", runtime=runtime), GOAL, Progress())


@dataclass(frozen=True)
class Session:
    """What `_fastest` needs of a session: unpruned variants, each with its seconds of a run."""

    seconds: float
    notes: tuple[str, ...] = ()
    harness: Any = field(default_factory=lambda: SimpleNamespace(bind=lambda run: run))

    def variants(self, limit: float) -> dict[str, float]:
        return {"fp32": 3 * self.seconds, "int8": self.seconds}

    def variant_model(self, seconds: float) -> Callable[[], None]:
        def busy() -> None:
            import time

            until = time.process_time() + seconds
            while time.process_time() < until:
                pass

        return busy


def fastest(
    monkeypatch: pytest.MonkeyPatch, sessions: dict[str, Session | Exception], installed: bool = True, **given: Any
) -> Session:
    def opened(asked: Request, opening: Opening, may: Goal, runtime: str) -> Any:
        found = sessions[runtime]
        if isinstance(found, Exception):
            raise found
        return found

    time_quickly(monkeypatch)
    monkeypatch.setattr(open_session, "_open_on_cpu", opened)
    monkeypatch.setattr(open_session, "openvino_is_installed", lambda: installed)
    opening = cast(Any, SimpleNamespace(progress=Progress()))
    return cast(Any, open_session._fastest(request(runtime="auto", **given), opening, GOAL))


@pytest.mark.parametrize(("ort_s", "ov_s", "winner"), [(0.001, 0.003, "onnxruntime"), (0.003, 0.001, "openvino")])
def test_auto_keeps_the_runtime_whose_unpruned_network_is_faster(
    monkeypatch: pytest.MonkeyPatch, ort_s: float, ov_s: float, winner: str
) -> None:
    found = fastest(monkeypatch, {"onnxruntime": Session(ort_s), "openvino": Session(ov_s)})
    assert found.seconds == 0.001
    assert found.notes[0].startswith(f"--runtime auto: {winner} runs the result: its fastest unpruned network takes")
    assert "(int8)" in found.notes[0]


def test_auto_without_openvino_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fastest(monkeypatch, {"onnxruntime": Session(0.001)}, installed=False)
    assert found.notes == ("--runtime auto: OpenVINO is not installed, so onnxruntime runs the result",)


@pytest.mark.parametrize("error", [ModelError("no rule for Swoosh"), BackendError("no rule for Swoosh")])
def test_a_model_that_openvino_refuses_falls_back_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    found = fastest(monkeypatch, {"onnxruntime": Session(0.001), "openvino": error})
    (note,) = found.notes
    assert note.endswith("because OpenVINO cannot run the model: no rule for Swoosh")


@dataclass(frozen=True)
class Refused(Session):
    """A session whose float network runs, and whose INT8 network does not."""

    def variants(self, limit: float) -> dict[str, float]:
        raise ModelError("no INT8 kernel for Swoosh")


def test_a_model_whose_int8_form_openvino_refuses_falls_back_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fastest(monkeypatch, {"onnxruntime": Session(0.001), "openvino": Refused(0.0)})
    assert found.seconds == 0.001
    (note,) = found.notes
    assert note.endswith("because OpenVINO cannot run the model: no INT8 kernel for Swoosh")


@dataclass(frozen=True)
class Loaded:
    """OpenVINO, with what a network loses in each float type."""

    drops: Mapping[str, Any]
    float_precisions: tuple[str, ...] = ("fp32", "bf16")

    def load(self, precision: str) -> Any:
        return SimpleNamespace(run=self.drops[precision])


@pytest.mark.parametrize(
    ("drops", "asked", "precision"),
    [
        ({"bf16": 0.1}, "auto", "bf16"),
        ({"bf16": 0.3, "fp32": 0.0}, "auto", "fp32"),
        ({"bf16": 4.0}, "bf16", "bf16"),
        ({"bf16": 9.0, "fp32": 0.0}, "bf16", "bf16"),
        ({"bf16": 40.0, "fp32": 40.0}, "bf16", None),  # no rounding: it computes another network
        ({"bf16": (2.6, (0.1, 65.0))}, "auto", "bf16"),  # a single detection of two images
        ({"bf16": (2.6, (1.9, 3.5)), "fp32": 0.0}, "auto", "fp32"),
        ({"fp32": 0.0}, "fp32", "fp32"),
        ({"bf16": 40.0, "fp32": 40.0}, "auto", None),
        ({"fp32": 40.0}, "fp32", None),
    ],
)
def test_float_layers_have_the_fastest_type_that_is_right(
    monkeypatch: pytest.MonkeyPatch, drops: dict[str, Any], asked: str, precision: str | None
) -> None:
    monkeypatch.setattr(open_session, "OpenVino", lambda threads: Loaded(drops))
    monkeypatch.setattr(open_session, "state_precision", lambda dense, precision: precision)

    def accuracy(scored: Any) -> SimpleNamespace:
        drop, interval = scored if isinstance(scored, tuple) else (scored, None)
        return SimpleNamespace(drop=drop, drop_interval=interval)

    evaluator = SimpleNamespace(accuracy=accuracy)
    opening = cast(Any, SimpleNamespace(progress=Progress(), evaluator=evaluator, opened=SimpleNamespace(dense=None)))
    wanted = request(runtime="openvino", precision=asked)
    if precision is None:
        with pytest.raises(ModelError, match=r"OpenVINO computes other outputs than onnxruntime: in fp32 .* 40 points"):
            open_session._float_format(wanted, opening)
    else:
        found, notes = open_session._float_format(wanted, opening)
        assert found == precision
        assert len(notes) == (asked == "auto" and precision == "fp32")


def test_auto_over_ssh_is_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    found = fastest(monkeypatch, {"onnxruntime": Session(0.001)}, device="ssh://me@board")
    assert found.notes == ("--runtime auto: only onnxruntime is measured over SSH",)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network compiled for OpenVINO in INT8."""
    folder = tmp_path_factory.mktemp("openvino")
    rng = np.random.default_rng(0)
    residual.save(folder / "net.onnx", rng)
    np.savez(folder / "calib.npz", x=rng.standard_normal((16, 3, 48, 48)).astype(np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEPRUNE_CACHE", str(folder / "cache"))
        time_quickly(patch)
        flags = ["--target", "cpu", "--runtime", "openvino", "--precision", "int8", "--accept-loss", "-q"]
        arguments = ["compile", str(folder / "net.onnx"), "--calib", str(folder / "calib.npz"), *flags]
        result = CliRunner().invoke(cli, [*arguments, "-o", str(folder / "out")])
        assert result.exception is None, result.output
    return folder / "out"


@needs_openvino
def test_the_report_names_both_runtimes(compiled: Path) -> None:
    report = json.loads((compiled / "report.json").read_text())
    assert report["latency"]["runtime"].startswith("openvino ")
    assert report["latency"]["baseline_runtime"].startswith("onnxruntime ")
    assert report["versions"]["openvino"]
    assert report["recipe"]["runtime"] == "openvino"


@needs_openvino
def test_the_folder_has_the_model_in_both_forms_and_a_script_unless_the_original_is_returned(compiled: Path) -> None:
    report = json.loads((compiled / "report.json").read_text())
    own = report["outcome"]["variant"] == "original"
    for name in ("model.xml", "model.bin", "run_openvino.py"):
        assert (compiled / name).is_file() != own
    plan = json.loads((compiled / "plan.json").read_text())
    assert {layer["precision"] for layer in plan["layers"]} <= {"int8", "bf16", "fp32"}


def test_an_operator_that_cannot_be_trained_is_refused_before_the_search(tmp_path: Path) -> None:
    model = single(
        """net (float[1,8,6,6] x) => (float[1,8,6,6] y) <float[1,4] box = {0, 0, 5, 5}, int64[1] which = {0}> {
            a = Conv<pads=[1,1,1,1]>(x, w) [odd] b = RoiAlign<output_height=6, output_width=6>(a, box, which)
            y = Conv<pads=[1,1,1,1]>(b, v)
        }""",
        w=(16, 8, 3, 3),
        v=(8, 16, 3, 3),
    )
    graph.save(model, tmp_path / "net.onnx")
    asked = ["compile", str(tmp_path / "net.onnx"), "--calib", "random", "--target", "orin", "--speedup", "1.1"]
    done = CliRunner().invoke(cli, [*asked, "--recover", "1", "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, ModelError)
    assert "--recover 1: the operator RoiAlign of node 'odd' cannot be run in PyTorch" in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_device_that_cannot_be_reached_is_said_before_all_work(monkeypatch: pytest.MonkeyPatch):
    class Unreachable:
        name = "ssh://me@board"
        host = None

        def facts(self) -> Mapping[str, str]:
            raise BackendError("ssh://me@board: no route to host")

        def measure(self, models: Mapping[str, Any], **given: Any) -> dict[str, Any]:
            raise AssertionError

    monkeypatch.setattr(open_session, "open_device", lambda *_, **__: Unreachable())
    monkeypatch.setattr(open_session, "open_model_and_data", lambda *_: pytest.fail("the model was read"))
    with pytest.raises(BackendError, match="no route to host"):
        open_session.open_session(request(target="orin", device="ssh://me@board"), GOAL, Progress())
