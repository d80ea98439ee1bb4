"""Prediction of whole models."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from edgeprune.costmodel.prediction import model_latency_us, predict
from edgeprune.devices.targets import load_profile
from edgeprune.errors import ProfileError, TargetError, UsageError
from edgeprune.passes.canonicalize.pipeline import canonicalize

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
net (float[{batch},3,224,224] x, float[64,3,7,7] w0, float[64,64,3,3] w1, float[64,64,3,3] w2, float[64,1000] w3)
    => (float[{batch},1000] y)
{{
  a = Conv<strides=[2,2], pads=[3,3,3,3]>(x, w0)
  b = Relu(a)
  c = Conv<pads=[1,1,1,1]>(b, w1)
  d = Relu(c)
  e = Conv<pads=[1,1,1,1]>(d, w2)
  f = Add(e, b)
  g = Relu(f)
  h = GlobalAveragePool(g)
  i = Flatten(h)
  y = MatMul(i, w3)
}}
"""


def network(batch: str = "1") -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT.format(batch=batch))
    random = np.random.default_rng(0)
    weights = [v for v in model.graph.input if v.name.startswith("w")]
    for value in weights:
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = random.standard_normal(dims).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, value.name))
        model.graph.input.remove(value)
    return model


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(network(), path)
    return path


def test_prediction_is_the_sum_of_its_kernels(file: Path) -> None:
    found = predict(file, "orin", precision="fp16")
    assert found.kernel_count == len(found.kernels) == 5
    call_us = load_profile("orin").device().call_us
    assert found.latency_ms * 1e3 == pytest.approx(sum(k.latency_us for k in found.kernels) + call_us, rel=1e-12)
    assert found.gmacs == pytest.approx((112 * 112 * 64 * (3 * 49 + 2 * 64 * 9) + 64 * 1000) / 1e9, rel=1e-12)


def test_json_form(file: Path) -> None:
    form = json.loads(json.dumps(predict(file, "orin-nano-8", precision="int8").to_json(costliest=3)))
    assert (form["target"], form["power_mode"], form["precision"], form["source"]) == (
        "orin-nano-8", "MAXN_SUPER", "int8", "analytic",
    )  # fmt: skip
    assert form["measured"] is False
    assert 0 < form["error"] <= form["error_p90"]
    assert form["latency_ms"] > 0
    times = [k["latency_us"] for k in form["kernels"]]
    assert (len(times), form["kernel_count"]) == (3, 5)
    assert "launches" not in form
    assert times == sorted(times, reverse=True)
    assert {k["bound"] for k in form["kernels"]} <= {"launch", "compute", "memory"}


def test_precisions_and_power_modes_are_ordered(file: Path) -> None:
    by_precision = [predict(file, "orin", precision=p).latency_ms for p in ("fp32", "fp16", "int8")]
    assert by_precision == sorted(by_precision, reverse=True)
    assert predict(file, "orin", precision="best").latency_ms == by_precision[2]
    by_mode = [predict(file, "orin", mode, "fp16").latency_ms for mode in ("MAXN", "50W", "30W", "15W")]
    assert by_mode == sorted(by_mode)


def test_devices_of_a_family_are_ordered(file: Path) -> None:
    names = ["orin", "orin-agx-32", "orin-nx-16", "orin-nano-8", "orin-nano-4"]
    times = [predict(file, name, precision="fp16").latency_ms for name in names]
    assert times == sorted(times)


def test_extrapolations_are_stated(file: Path) -> None:
    assert not predict(file, "orin", precision="fp16").outside or "multiply-adds" in predict(file, "orin").outside[0]
    assert any("power mode 15W was not fitted" in s for s in predict(file, "orin", "15W").outside)
    assert any("orin-nano-4 itself was not fitted" in s for s in predict(file, "orin-nano-4").outside)
    assert any("no published fp32" in s for s in predict(file, "nano", precision="fp32").outside)


def test_a_tiny_model_is_outside(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> t (float[1,4] x) => (float[1,4] y) { y = Relu(x) }'
        ),
        path,
    )
    assert any("multiply-adds" in s for s in predict(path, "orin").outside)


@pytest.mark.parametrize("count", [1, 2])
def test_operators_without_a_model_are_counted(tmp_path: Path, count: int) -> None:
    nodes = " ".join(f"y{i} = Det(x)" for i in range(count))
    outputs = ", ".join(f"float[4] y{i}" for i in range(count))
    header = '<ir_version: 8, opset_import: ["" : 17]>'
    onnx.save(
        onnx.parser.parse_model(f"{header} t (float[4,3,3] x) => ({outputs}) {{ {nodes} }}"), tmp_path / "det.onnx"
    )
    (said,) = [s for s in predict(tmp_path / "det.onnx", "orin").outside if "not modelled" in s]
    assert said.startswith(("1 node not", "2 nodes not")[count - 1])


def test_symbolic_batch_is_one_unless_fixed(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save(network("N"), path)
    one = predict(path, "orin", precision="fp16").latency_ms
    assert one == predict(file, "orin", precision="fp16").latency_ms
    assert predict(path, "orin", precision="fp16", shapes={"x": (8, 3, 224, 224)}).latency_ms > one


def test_an_open_size_is_proposed_and_named(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 17]> t (float[1,3,H,W] x) => (float[1,3,H,W] y) { y = Relu(x) }'
        ),
        path,
    )
    found = predict(path, "orin")
    assert "input x: 1x3x320x320, proposed from the graph: --shape to change" in found.outside
    fixed = predict(path, "orin", shapes={"x": (1, 3, 320, 320)})
    assert fixed.latency_ms == found.latency_ms
    assert "proposed" not in " ".join(fixed.outside)


def test_refusals(file: Path) -> None:
    with pytest.raises(TargetError, match="unknown target"):
        predict(file, "raspberry")
    with pytest.raises(TargetError, match="has no power mode"):
        predict(file, "orin", "99W")
    with pytest.raises(ProfileError, match="measured at first use"):
        predict(file, "cpu")
    with pytest.raises(UsageError, match="unknown precision 'int4'"):
        predict(file, "orin", precision="int4")  # type: ignore[arg-type]


def test_mixed_precisions_by_node_lie_between_the_pure_ones() -> None:
    model = canonicalize(ir.from_proto(network()), verify=False)
    profile = load_profile("orin")
    fp16, int8 = (model_latency_us(model, profile, p) for p in ("fp16", "int8"))
    middle = str(next(n.name for n in model.graph if n.op_type == "Conv"))
    mixed = model_latency_us(model, profile, "int8", precisions={middle: "fp16"})
    assert [k.precision for k in mixed.kernels[:2]] == ["fp16", "int8"]
    assert int8.latency_ms <= mixed.latency_ms <= fp16.latency_ms * 1.1
    assert mixed.kernels[1].latency_us == int8.kernels[1].latency_us


def test_quantized_graph_is_predicted_as_it_is() -> None:
    """Q/DQ is no kernel of its own, and the layer runs in INT8."""
    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    q (float[1,64,56,56] x) => (float[1,64,56,56] y)
    <float s = {0.1}, int8 z = {0}>
    {
      a = QuantizeLinear(x, s, z)
      b = DequantizeLinear(a, s, z)
      y = Conv<pads=[1,1,1,1]>(b, w)
    }
    """
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(0).standard_normal((64, 64, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    found = model_latency_us(canonicalize(ir.from_proto(model), verify=False), load_profile("orin"))
    assert [(k.kind, k.precision) for k in found.kernels] == [("conv", "int8")]
    assert found.precision == "as quantized"


def test_int8_is_predicted_as_a_compile_places_it() -> None:
    """The fastest mix with all reformats: the same number as the search of a compile finds, for the same network."""
    from edgeprune.dependency.solve import analyse
    from edgeprune.latency.kernel_network import gpu_network

    model = canonicalize(ir.from_proto(network()))
    profile = load_profile("orin")
    gpu = gpu_network(model, analyse(model), profile.device(), ("fp16", "int8"), step=32, error=0.05)
    found = model_latency_us(model, profile, "int8")
    formats = [k.precision for k in found.kernels]
    assert "int8" in formats
    assert found.latency_ms * 1e3 == pytest.approx(gpu.latency.total_us(gpu.latency.sizes, formats), rel=1e-9)
    blocks = [b for b in range(len(formats)) if "int8" in gpu.latency.formats(b)]
    for chosen in itertools.product(("fp16", "int8"), repeat=len(blocks)):
        other = list(formats)
        for block, fmt in zip(blocks, chosen, strict=True):
            other[block] = fmt
        assert gpu.latency.total_us(gpu.latency.sizes, other) >= found.latency_ms * 1e3 * (1 - 1e-9)


def test_fp8_is_priced_from_published_ratios_on_devices_that_have_it() -> None:
    model = canonicalize(ir.from_proto(network()))
    thor = load_profile("thor")
    half, eight = (model_latency_us(model, thor, p) for p in ("fp16", "fp8"))
    assert [k.precision for k in eight.kernels if k.kind == "matmul"] == ["fp8"]
    one, other = (next(k.latency_us for k in p.kernels if k.kind == "matmul") for p in (half, eight))
    assert one / other == pytest.approx(thor.fp8_gain)
    assert any("FP8 in 1 MatMuls is priced from published ratios" in text for text in eight.outside)
    with pytest.raises(UsageError, match="target orin has no FP8"):
        model_latency_us(model, load_profile("orin"), "fp8")


def test_energy_is_bounded_by_the_watts_that_a_power_mode_states() -> None:
    model, orin = canonicalize(ir.from_proto(network())), load_profile("orin")
    found = model_latency_us(model, orin, "fp16", power_mode="30W")
    assert found.energy_mj_at_most == pytest.approx(30 * found.latency_ms)
    assert model_latency_us(model, orin, "fp16").energy_mj_at_most is None
