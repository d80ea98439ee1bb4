from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends.simulation import load
from edgeprune.errors import PassError
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible
from edgeprune.passes.tensorrt.lower_tensorrt import lower_tensorrt
from edgeprune.passes.tensorrt.quantize_tensorrt import values_to_quantize
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build, feeds_for, observed, run
from tests.passes.simulation import roundings_of_onnxruntime, simulate, strict_float16

JETPACK6_AND_11 = ("10.3", "11.0")


def everything(model: ir.Model, floats: str) -> dict[str, str]:
    return {name: "int8" if verdict else floats for name, verdict in int8_eligible(model).items()}


def largest(ranges: dict[str, tuple[float, float]], *values: str) -> float:
    return max(abs(bound) for value in values for bound in ranges[value])


def residual_activations(ranges: dict[str, tuple[float, float]]) -> dict[tuple[str, int], float]:
    """Quantized values by the rules: inputs of convolutions; the residual of the Add; one scale around the Concat."""
    joined = largest(ranges, "cat", "s")  # s reaches the Concat through a MaxPool
    return {
        ("stem", 0): largest(ranges, "image"),
        ("c1", 0): largest(ranges, "x"),
        ("c2", 0): largest(ranges, "r1"),
        ("sum", 1): largest(ranges, "x"),
        ("narrow", 0): joined,
        ("y", 0): joined,
    }


RESIDUAL_WEIGHTS = {"stem": 0, "c1": 0, "c2": 0, "narrow": 0, "y": 0}


@pytest.mark.parametrize("versions", [JETPACK6_AND_11, ("8.6",), ("8.6", "10.3")])
def test_int8_computes_the_simulated_quantization(versions: tuple[str, ...]):
    model = build(RESIDUAL)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp32"), ranges, target_versions=versions)
    feeds = feeds_for(model, seed=9)
    (expected,) = run(simulate(model, RESIDUAL_WEIGHTS, residual_activations(ranges)), feeds)
    (actual,) = run(lowered, feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    (exact,) = run(model, feeds)
    assert 1e-4 < np.abs(actual - exact).max() / np.abs(exact).max() < 0.1  # it is quantized, and not broken


ONLY_READ_AS_INTEGERS = {"stem", "x", "c1", "r1"}
"""Nodes of RESIDUAL whose results TensorRT never writes as floats: these stay float32."""


def test_onnxruntime_left_to_itself_computes_the_simulated_quantization_without_optimizations():
    model = build(TOWER)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp16"), ranges, target_versions=JETPACK6_AND_11)
    feeds = feeds_for(model, seed=3)
    (expected,) = load(lowered).run(feeds)
    (actual,) = run(lowered, feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    types = {n.name: n.outputs[0].dtype for n in lowered.graph}
    assert {types[name] for name in ("stem", "x", "c1", "r1", "c2", "sum", "s")} == {ir.DataType.FLOAT}
    assert types["y"] == ir.DataType.FLOAT16


def test_onnxruntime_left_to_itself_differs_by_the_roundings_that_it_skips(tmp_path: Path):
    model = build(SILU)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp16"), ranges, target_versions=JETPACK6_AND_11)
    feeds = feeds_for(model, seed=3)
    (actual,) = run(lowered, feeds)
    weights = {"c0": 0, "c1": 0, "c2": 0}
    activations = {
        ("c0", 0): largest(ranges, "image"),
        ("c1", 0): largest(ranges, "x"),
        ("c2", 0): largest(ranges, "y"),
    }
    nodes = frozenset(str(n.name) for n in model.graph)
    roundings = roundings_of_onnxruntime(lowered, tmp_path)
    assert {("c1", 0), ("c2", 0)} <= roundings.before  # the result of an activation function is quantized as float16
    assert not {("g0", 0), ("x", 0), ("x", 1), ("y", 1)} & (roundings.before | roundings.after)  # these are skipped
    (expected,) = run(simulate(model, weights, activations, nodes, roundings), feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    (strict,) = run(simulate(model, weights, activations, nodes), feeds)
    assert np.abs(actual - strict).max() > 2e-3 * np.abs(strict).max()


def test_a_misplaced_pair_is_seen_beside_float16(tmp_path: Path):
    """The test above would fail if one tensor more or less were quantized."""
    model = build(SILU)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp16"), ranges, target_versions=JETPACK6_AND_11)
    feeds = feeds_for(model, seed=3)
    (actual,) = run(lowered, feeds)
    nodes = frozenset(str(n.name) for n in model.graph)
    roundings = roundings_of_onnxruntime(lowered, tmp_path)
    right = {(node, 0): largest(ranges, value) for node, value in (("c0", "image"), ("c1", "x"), ("c2", "y"))}
    missing = {edge: limit for edge, limit in right.items() if edge != ("c1", 0)}
    misplaced = missing | {("x", 0): largest(ranges, "c0")}  # before the activation function instead of behind it
    for wrong in (missing, misplaced, right | {("g1", 0): largest(ranges, "c1")}):
        (expected,) = run(simulate(model, {"c0": 0, "c1": 0, "c2": 0}, wrong, nodes, roundings), feeds)
        assert np.abs(actual - expected).max() > 5e-3 * np.abs(expected).max()


def test_a_value_is_quantized_and_restored_by_one_scale_where_one_side_is_float16():
    # c1 is only read quantized, so it is float32; its input is float16.
    text = SILU.replace("g1 = Sigmoid(c1)", "y = Relu(c1)").replace("y = Mul(c1, g1)", "")
    model = build(text)
    lowered = lower_tensorrt(model, everything(model, "fp16"), observed(model), target_versions=JETPACK6_AND_11)
    pairs = {
        str(reader.outputs[0].consumers()[0].name): (node.inputs[1], reader.inputs[1])
        for node in lowered.graph
        if node.op_type == "QuantizeLinear"
        for reader in node.outputs[0].consumers()
    }
    assert [value.dtype for value in pairs["c1"]] == [ir.DataType.FLOAT16, ir.DataType.FLOAT]
    for one, other in pairs.values():
        assert float(one.const_value.numpy()) == float(other.const_value.numpy())


SILU = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 3, 16, 16] image) => (float[1, 32, 16, 16] output)
<float[32, 3, 3, 3] w0, float[32] b0, float[32, 32, 3, 3] w1, float[32] b1, float[32, 32, 3, 3] w2, float[32] b2>
{
  c0 = Conv<pads = [1, 1, 1, 1]>(image, w0, b0)
  g0 = Sigmoid(c0)
  x = Mul(c0, g0)
  c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  g1 = Sigmoid(c1)
  y = Mul(c1, g1)
  c2 = Conv<pads = [1, 1, 1, 1]>(y, w2, b2)
  g2 = Sigmoid(c2)
  output = Mul(c2, g2)
}
"""


TOWER = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 3, 16, 16] image) => (float[1, 32, 16, 16] output)
<float[32, 3, 3, 3] w0, float[32] b0, float[32, 32, 3, 3] w1, float[32] b1, float[32, 32, 3, 3] w2, float[32] b2,
 float[32, 32, 3, 3] w3, float[32] b3>
{
  stem = Conv<pads = [1, 1, 1, 1]>(image, w0, b0)
  x = Relu(stem)
  c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<pads = [1, 1, 1, 1]>(r1, w2, b2)
  sum = Add(c2, x)
  s = Relu(sum)
  y = Conv<pads = [1, 1, 1, 1]>(s, w3, b3)
  output = Relu(y)
}
"""


def test_int8_with_float16_around_it_computes_the_simulated_quantization():
    model = build(RESIDUAL)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp16"), ranges, target_versions=JETPACK6_AND_11)
    feeds = feeds_for(model, seed=9)
    names = {str(node.name) for node in model.graph} - ONLY_READ_AS_INTEGERS
    wanted = simulate(model, RESIDUAL_WEIGHTS, residual_activations(ranges), frozenset(names))
    (expected,) = run(wanted, feeds)
    (actual,) = run(strict_float16(lowered), feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
    assert lowered.graph.outputs[0].dtype == ir.DataType.FLOAT


def test_a_transformer_block_keeps_its_statistics_in_float32_when_nothing_is_known():
    model = build(TRANSFORMER)
    lowered = lower_tensorrt(model, {str(n.name): "fp16" for n in model.graph}, {}, target_versions=["11.0"])
    types = {str(n.name): n.outputs[0].dtype for n in lowered.graph}
    wide = {name for name in types if types[name] == ir.DataType.FLOAT}
    assert {"mean", "centred", "square", "variance", "padded", "deviation", "normal"} <= wide
    assert not wide & {"scaled", "n", "p1", "h", "r", "p2", "o"}
    feeds = feeds_for(model)
    np.testing.assert_allclose(run(lowered, feeds)[0], run(model, feeds)[0], rtol=0, atol=5e-3)


def test_a_layer_norm_that_would_overflow_does_not():
    model = build(TRANSFORMER)
    x = feeds_for(model)["x"] * 3000  # the square reaches 1e8
    ranges = {"x": (float(x.min()), float(x.max()))}
    precision = {str(n.name): "fp16" for n in model.graph}
    lowered = lower_tensorrt(model, precision, ranges, target_versions=["10.3"])
    actual, expected = run(lowered, {"x": x}, ["n"])[0], run(model, {"x": x}, ["n"])[0]
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-3 * np.abs(expected).max())


def test_int8_matmuls_are_quantized_along_their_last_axis():
    model = build(TRANSFORMER)
    ranges = observed(model)
    lowered = lower_tensorrt(model, everything(model, "fp32"), ranges, target_versions=["10.3"])
    activations = {("p1", 0): largest(ranges, "n"), ("p2", 0): largest(ranges, "r")}
    feeds = feeds_for(model, 5)
    expected = run(simulate(model, {"p1": 1, "p2": 1}, activations), feeds)[0]
    np.testing.assert_allclose(run(lowered, feeds)[0], expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_the_residual_of_a_transformer_is_not_quantized():
    model = build(TRANSFORMER)
    assert values_to_quantize(model, ["p1", "p2"]) == ["n", "r"]


def test_opset_and_form_of_weights_follow_the_target():
    model = build(RESIDUAL)
    ranges, plan = observed(model), everything(model, "fp16")

    def form(versions: tuple[str, ...]) -> tuple[int, bool]:
        lowered = lower_tensorrt(model, plan, ranges, target_versions=versions)
        stored = any(v.dtype == ir.DataType.INT8 and "quantized" in n for n, v in lowered.graph.initializers.items())
        return lowered.graph.opset_imports[""], stored

    assert form(JETPACK6_AND_11) == (19, True)
    assert form(("8.6",)) == (17, False)
    assert form(("8.6.1.6", "11.0")) == (17, False)


def test_biases_stay_float_and_activations_have_one_scale():
    model = build(RESIDUAL)
    lowered = lower_tensorrt(model, everything(model, "fp16"), observed(model), target_versions=JETPACK6_AND_11)
    for node in lowered.graph:
        if node.op_type == "Conv":
            beside = ir.DataType.FLOAT if node.name in ONLY_READ_AS_INTEGERS else ir.DataType.FLOAT16
            assert [v.dtype for v in node.inputs if v is not None] == [beside] * 3
            assert node.inputs[2] is not None
            assert node.inputs[2].is_initializer()
        if node.op_type == "QuantizeLinear":
            scale, zero = node.inputs[1], node.inputs[2]
            assert scale is not None
            assert zero is not None
            assert scale.const_value is not None
            assert scale.const_value.size == 1
            assert zero.dtype == ir.DataType.INT8


def test_inputs_and_outputs_are_the_users():
    model = build(RESIDUAL)
    lowered = lower_tensorrt(model, everything(model, "fp16"), observed(model), target_versions=JETPACK6_AND_11)
    described = [(v.name, v.dtype, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]
    assert [(v.name, v.dtype, v.shape) for v in (*lowered.graph.inputs, *lowered.graph.outputs)] == described
    assert model.graph.node("c1").outputs[0].dtype == ir.DataType.FLOAT  # and the model that came in is untouched


def test_passive_nodes_may_be_called_int8():
    model = build(RESIDUAL)
    plan = {str(n.name): "int8" for n in model.graph}
    lowered = lower_tensorrt(model, plan, observed(model), target_versions=["10.3"], int8_float="fp16")
    assert lowered.graph.node("s").outputs[0].dtype == ir.DataType.FLOAT16


@pytest.mark.parametrize(
    ("change", "versions", "message"),
    [
        ({"nobody": "fp16"}, ["10.3"], "no node 'nobody'"),
        ({"c1": "int4"}, ["10.3"], "'c1' is to be 'int4'"),
        ({}, [], "no TensorRT version"),
        ({}, ["ten"], "'ten' is no TensorRT version"),
        ({}, ["7.2"], "before 8.5"),
    ],
)
def test_nonsense_is_refused(change: dict[str, str], versions: list[str], message: str):
    model = build(RESIDUAL)
    with pytest.raises(PassError, match=message):
        lower_tensorrt(model, {**everything(model, "fp16"), **change}, observed(model), target_versions=versions)


def test_a_missing_range_is_named():
    model = build(RESIDUAL)
    ranges = observed(model)
    del ranges["r1"]
    with pytest.raises(PassError, match="'r1'"):
        lower_tensorrt(model, everything(model, "fp16"), ranges, target_versions=["10.3"])


def test_foreign_quantization_is_refused():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 16] x) => (float[1, 16] y) <float s = {0.1}, uint8 z = {128}>
    { q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z) }
    """)
    with pytest.raises(PassError, match="'q' is not int8 with zero point 0"):
        lower_tensorrt(model, {}, {}, target_versions=["10.3"])
