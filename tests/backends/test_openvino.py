"""OpenVINO as a runtime. Tests that run it are skipped where the ``[openvino]`` extra is not installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

from edgeprune.backends import openvino
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.backends.openvino import OpenVino, reason
from edgeprune.errors import BackendError, ModelError, UsageError
from edgeprune.passes.openvino import STATED_PRECISION
from edgeprune.timing import OneThread

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")

NET = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[n, 8, 6, 6] x, float[8, 8, 3, 3] w) => (float[n, 8, 6, 6] y, float[n, 8, 6, 6] z)
{ c = Conv<pads = [1, 1, 1, 1]>(x, w)  y = Relu(c)  z = Neg(y) }
"""


def serialized(text: str = NET, **metadata: str) -> bytes:
    model = onnx.parser.parse_model(text)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()


def feeds() -> dict[str, Any]:
    random = np.random.default_rng(0)
    shapes = {"x": (2, 8, 6, 6), "w": (8, 8, 3, 3)}
    return {name: random.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}


@needs_openvino
def test_computes_as_onnxruntime_does_in_float32(tmp_path: Path) -> None:
    model = serialized(**{STATED_PRECISION: "fp32"})
    (tmp_path / "net.onnx").write_bytes(model)
    wanted = OnnxRuntime().load(model).run(feeds())
    for source in (model, tmp_path / "net.onnx", str(tmp_path / "net.onnx")):
        found = OpenVino().load(source).run(feeds())
        for w, f in zip(wanted, found, strict=True):
            np.testing.assert_allclose(f, w, rtol=1e-5, atol=1e-5)  # float32 sums in another order


@needs_openvino
def test_a_model_states_the_type_of_its_float_layers() -> None:
    runtime = OpenVino()
    if "bf16" not in runtime.float_precisions:
        pytest.skip("the processor has no bfloat16")
    kinds = {}
    for precision in ("fp32", "bf16"):
        runner = runtime.load(serialized(**{STATED_PRECISION: precision}))
        runner.bind(feeds())
        kinds[precision] = next(k.types[0] for k in runner.kernels() if k.kind == "Convolution")
    assert kinds == {"fp32": "f32", "bf16": "bf16"}


@needs_openvino
def test_describes_its_ports_and_binds_to_one_thread() -> None:
    runner = OpenVino(threads=1).load(serialized())
    assert [(port.name, port.type, port.shape) for port in runner.inputs] == [
        ("x", "tensor(float)", (None, 8, 6, 6)),
        ("w", "tensor(float)", (8, 8, 3, 3)),
    ]
    assert [port.name for port in runner.outputs] == ["y", "z"]
    assert isinstance(runner.bind(runner.random_feeds()), OneThread)


@needs_openvino
def test_the_execution_graph_says_what_was_fused_and_how_long_it_took() -> None:
    runner = OpenVino().load(serialized(), trace=True)
    run = runner.bind(feeds())
    for _ in range(3):
        run()
    (conv,) = [kernel for kernel in runner.kernels() if kernel.kind == "Convolution"]
    assert conv.median_us > 0
    assert len(conv.nodes) >= 2  # the Relu is part of it


@needs_openvino
@pytest.mark.parametrize(
    ("source", "message"),
    [
        (NET.replace("Neg(y)", "com.acme.Swoosh(y)").replace('"" : 17', '"" : 17, "com.acme" : 1'), "com.acme.Swoosh"),
        ("", "does not accept the model"),
    ],
)
def test_a_model_that_openvino_refuses_is_one_sentence(source: str, message: str) -> None:
    model = serialized(source) if source else b"no model"
    with pytest.raises(ModelError, match=message) as caught:
        OpenVino().load(model).run({})
    assert "\n" not in str(caught.value)


@needs_openvino
def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        OpenVino().load(tmp_path / "none.onnx")
    (tmp_path / "net.json").write_text("{}")
    with pytest.raises(ModelError, match=r"neither an \.onnx file nor"):
        OpenVino().load(tmp_path / "net.json")


@needs_openvino
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": np.zeros((2, 7, 6, 6), np.float32)}, "incompatible"),
        ({"x": np.zeros((2, 8, 6, 6), np.int64)}, "precision: i64"),
        ({"x": None}, "input 'x' is not given"),
        ({"q": np.zeros(1, np.float32)}, "it has no input 'q'"),
    ],
)
def test_a_bad_feed_is_one_sentence(change: dict[str, Any], message: str) -> None:
    given = {name: value for name, value in {**feeds(), **change}.items() if value is not None}
    with pytest.raises(BackendError, match=message) as caught:
        OpenVino().load(serialized()).run(given)
    assert "\n" not in str(caught.value)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "is_installed", lambda: False)
    with pytest.raises(BackendError, match=r"pip install 'edgeprune\[openvino\]'"):
        OpenVino()


def test_importing_edgeprune_does_not_import_openvino() -> None:
    code = "import sys, edgeprune.cli.commands, edgeprune.compiler; print('openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_reason_is_the_last_cause_without_places_in_the_source() -> None:
    text = "Exception from a.cpp:1:\nCheck 'false' failed at b.cpp:2:\nSummary:\n-- No rule for: Swoosh\n"
    assert reason(RuntimeError(text)) == "No rule for: Swoosh"
    assert reason(RuntimeError("Exception from a.cpp:1:\nit is broken.\n\n")) == "it is broken"
    assert reason(RuntimeError("Check 'a == b' failed at b.cpp:2")) == "Check 'a == b' failed at b.cpp:2"
