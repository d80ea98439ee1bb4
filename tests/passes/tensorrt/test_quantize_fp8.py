"""FP8 pairs at the Linears of a transformer."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import tensorrt_rtx
from edgeprune.errors import PassError
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.passes.tensorrt.quantize_fp8 import fp8_eligible
from tests.models import single
from tests.passes.graphs import run

MLP = """
g (float[1,16,32] x) => (float[1,16,32] y) {
  a = MatMul(x, w1)
  b = Relu(a)
  c = MatMul(b, w2)
  y = Add(c, x)
}
"""
VERSIONS = ("10.13", "10.16", "11.0")
E4M3 = ir.DataType.FLOAT8E4M3FN


def mlp() -> ir.Model:
    return single(MLP, opset=19, w1=(32, 64), w2=(64, 32))


def lowered(model: ir.Model, kinds: dict[str, str] | None = None) -> tuple[ir.Model, dict[str, tuple[float, float]]]:
    feeds = {"x": np.random.default_rng(0).normal(size=(1, 16, 32)).astype(np.float32)}
    w1 = model.graph.initializers["w1"].const_value.numpy()  # type: ignore[union-attr]
    inner = np.maximum(feeds["x"] @ w1, 0)
    ranges = {
        name: (float(v.min()), float(v.max())) for name, v in (("x", feeds["x"]), ("a", feeds["x"] @ w1), ("b", inner))
    }
    ranges |= dict.fromkeys(("c", "y"), (-50.0, 50.0))
    may = fp8_eligible(model)
    precision = kinds or {name: "fp8" if verdict else "fp16" for name, verdict in may.items()}
    return lower_tensorrt(model, precision, ranges, target_versions=VERSIONS), ranges


def to_fp8(values: np.ndarray, largest: float) -> np.ndarray:
    """What a pair does to float16 values: float16 scale, E4M3 values, and back."""
    values = values.astype(np.float16).astype(np.float32)
    scale = np.float32(np.float16(largest / 448))
    return (values / scale).astype(E4M3.numpy()).astype(np.float32) * scale


def test_the_graph_computes_products_of_e4m3_operands() -> None:
    model = mlp()
    found, ranges = lowered(model)
    x = np.random.default_rng(0).normal(size=(1, 16, 32)).astype(np.float32)
    weights = [np.asarray(model.graph.initializers[n].const_value.numpy(), np.float32) for n in ("w1", "w2")]  # type: ignore[union-attr]
    inner = x
    for weight, name in zip(weights, ("x", "b"), strict=True):
        inner = to_fp8(inner, max(map(abs, ranges[name]))) @ to_fp8(weight, float(np.float16(np.abs(weight).max())))
        inner = np.maximum(inner, 0) if name == "x" else inner
    (actual,) = run(found, {"x": x})
    assert np.abs(actual - (inner + x)).max() / np.abs(inner + x).max() < 0.02
    assert found.graph.opset_imports[""] >= 19


def test_weights_are_stored_in_eight_bits_and_what_lies_between_is_float16() -> None:
    found, _ = lowered(mlp())
    stored = {name: v.const_value.dtype for name, v in found.graph.initializers.items() if v.const_value is not None}
    assert [dtype for name, dtype in stored.items() if name.endswith("_fp8")] == [E4M3, E4M3]
    assert not {"w1", "w2"} & stored.keys()
    assert all(n.outputs[0].dtype == ir.DataType.FLOAT16 for n in found.graph if n.op_type in ("MatMul", "Relu", "Add"))
    pairs = [n for n in found.graph if n.op_type == "QuantizeLinear"]
    assert len(pairs) == 2
    assert all(n.outputs[0].dtype == E4M3 for n in pairs)


def test_only_linears_may_be_fp8() -> None:
    model = single("g (float[1,8,4,4] x) => (float[1,8,4,4] y) { y = Conv(x, w) }", opset=19, w=(8, 8, 1, 1))
    assert not any(fp8_eligible(model).values())
    name = str(next(iter(model.graph)).name)
    with pytest.raises(PassError, match="Conv is no Linear"):
        lower_tensorrt(model, {name: "fp8"}, {"x": (-1, 1), "y": (-1, 1)}, target_versions=VERSIONS)


def test_older_versions_of_tensorrt_have_no_fp8() -> None:
    model = mlp()
    linear = next(str(n.name) for n in model.graph if n.op_type == "MatMul")
    with pytest.raises(PassError, match="FP8 needs TensorRT 10"):
        lower_tensorrt(model, {linear: "fp8"}, {}, target_versions=("8.6",))


@pytest.mark.skipif(not tensorrt_rtx.is_installed(), reason="TensorRT for RTX is not installed")
def test_tensorrt_builds_it_for_a_device_with_fp8() -> None:
    found, _ = lowered(mlp())
    assert tensorrt_rtx.build(found, capability="SM120").layers > 0
