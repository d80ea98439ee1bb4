"""Where the pairs stand, and what OpenVINO makes of them, by its execution graph."""

from __future__ import annotations

import importlib.util

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import LayerTime
from edgeprune.errors import PassError
from edgeprune.passes.openvino import int8_eligible, lower_openvino, quantize_openvino, values_to_quantize
from tests.passes.graphs import RESIDUAL, TRANSFORMER, build, feeds_for, observed, run

needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="needs OpenVINO")
CONVOLUTIONS = ["stem", "c1", "c2", "narrow", "y"]

SILU = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 32, 16, 16] x) => (float[1, 32, 16, 16] y)
<float[32, 32, 3, 3] w1, float[32] b1, float[32, 1, 3, 3] w2, float[32] b2, float[32, 32, 1, 1] w3, float[32] b3>
{
  a = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  s = Sigmoid(a)
  m = Mul(a, s)
  d = Conv<pads = [1, 1, 1, 1], group = 32>(m, w2, b2)
  r = Relu(d)
  y = Conv(r, w3, b3)
}
"""

BLOCK = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 3, 16, 16] image) => (float[1, 32, 16, 16] y)
<float[32, 3, 3, 3] w0, float[32] b0, float[32, 32, 3, 3] w1, float[32] b1, float[32, 32, 3, 3] w2, float[32] b2,
 float[32, 32, 1, 1] w3>
{
  stem = Conv<pads = [1, 1, 1, 1]>(image, w0, b0)
  x = Relu(stem)
  c1 = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
  r1 = Relu(c1)
  c2 = Conv<pads = [1, 1, 1, 1]>(r1, w2, b2)
  sum = Add(c2, x)
  s = Relu(sum)
  y = Conv(s, w3)
}
"""


def pairs(model: ir.Model) -> dict[str, ir.DataType | None]:
    """Quantized activation -> its type."""
    return {
        str(n.inputs[0].name): n.outputs[0].dtype
        for n in model.graph
        if n.op_type == "QuantizeLinear" and n.inputs[0] is not None
    }


def kernels(model: ir.Model, precision: str) -> dict[str, LayerTime]:
    """Node of the model -> the kernel that computes it."""
    from edgeprune.backends import OpenVino

    lowered = lower_openvino(model, [], {}, float_precision=precision)
    runner = OpenVino().load(lowered)
    runner.bind(feeds_for(model))
    return {name: kernel for kernel in runner.kernels() for name in kernel.nodes}


def test_inputs_of_int8_nodes_are_quantized_and_outputs_are_not() -> None:
    model = build(SILU)
    assert values_to_quantize(model, ["a", "d", "y"]) == ["x", "m", "r"]
    quantized = quantize_openvino(model, ["a", "d", "y"], observed(model))
    assert pairs(quantized) == dict.fromkeys(("x", "m", "r"), ir.DataType.UINT8)
    weights = [v.const_value for v in quantized.graph.initializers.values() if v.dtype == ir.DataType.INT8]
    zeros = [w for w in weights if w is not None and len(w.shape) == 1]
    assert all(not w.numpy().any() for w in zeros)  # signed, per channel, without a zero point
    assert [w.shape[0] for w in zeros] == [32, 32, 32]


def test_both_operands_of_a_residual_addition_are_quantized() -> None:
    model = build(RESIDUAL)
    quantized = quantize_openvino(model, CONVOLUTIONS, observed(model))
    assert {"x", "c2"} <= set(pairs(quantized))  # the residual, which a convolution reads too, and the other operand
    (add,) = [n for n in quantized.graph if n.op_type == "Add"]
    assert [v.producer().op_type for v in add.inputs if v is not None and v.producer()] == ["DequantizeLinear"] * 2


def test_matrices_with_values_below_zero_are_signed_and_others_unsigned() -> None:
    model = build(TRANSFORMER)
    found = pairs(quantize_openvino(model, ["p1", "p2"], observed(model)))
    assert found == {"n": ir.DataType.INT8, "r": ir.DataType.UINT8}


@pytest.mark.parametrize("text", [SILU, RESIDUAL, TRANSFORMER])
def test_it_computes_nearly_the_same(text: str) -> None:
    model = build(text)
    int8 = [name for name, verdict in int8_eligible(model).items() if verdict]
    feeds = feeds_for(model)
    (wanted,), (found,) = run(model, feeds), run(quantize_openvino(model, int8, observed(model)), feeds)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)  # 8 bits: about 1% a layer


@needs_openvino
@pytest.mark.parametrize("text", [SILU, RESIDUAL, TRANSFORMER])
def test_openvino_computes_what_the_graph_says(text: str) -> None:
    from edgeprune.backends import OpenVino

    model = build(text)
    int8 = [name for name, verdict in int8_eligible(model).items() if verdict]
    lowered = lower_openvino(model, int8, observed(model), float_precision="fp32")
    feeds = feeds_for(model)
    (wanted,), (found,) = run(lowered, feeds), OpenVino().load(lowered).run(feeds)
    assert np.linalg.norm(found - wanted) < 0.01 * np.linalg.norm(wanted)  # a rounding more or less at some values


@needs_openvino
def test_activation_functions_and_quantization_are_fused_into_the_convolution() -> None:
    model = build(SILU)
    found = kernels(quantize_openvino(model, ["a", "d", "y"], observed(model)), "fp32")
    assert found["m"].types == ("u8", "u8")  # the product is part of the kernel that reads and writes bytes
    assert found["d"].types == ("u8", "u8")  # also depthwise


@needs_openvino
def test_a_residual_is_added_in_the_kernel_of_the_convolution() -> None:
    model = build(BLOCK)
    found = kernels(quantize_openvino(model, ["stem", "c1", "c2", "y"], observed(model)), "fp32")
    assert (found["sum"].kind, found["sum"].types) == ("Convolution", ("u8", "u8"))


@pytest.mark.parametrize(
    ("node", "message"), [("s", "Relu has no INT8 form of its own in OpenVINO"), ("none", "has no node 'none'")]
)
def test_other_nodes_are_refused(node: str, message: str) -> None:
    model = build(RESIDUAL)
    with pytest.raises(PassError, match=message):
        quantize_openvino(model, [node], {})


@pytest.mark.parametrize("ranges", [{}, {"image": (0.0, float("nan"))}])
def test_a_range_that_is_missing_or_not_finite_is_an_error(ranges: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(PassError, match="'image'"):
        quantize_openvino(build(RESIDUAL), ["stem"], ranges)
