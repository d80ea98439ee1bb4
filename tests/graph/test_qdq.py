from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from edgeprune.errors import PassError
from edgeprune.graph.qdq import (
    Refused,
    asymmetric_scale,
    dequantized_weight,
    insert_qdq,
    quantize_weight,
    representable_scale,
    symmetric_scale,
)
from edgeprune.passes.tensorrt.int8_nodes import int8_eligible as tensorrt_eligible
from edgeprune.passes.x86.int8_nodes import int8_eligible as x86_eligible
from edgeprune.testing.oracle import parse

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[1, 4, 5, 5] x) => (float[1, 6, 5, 5] y, float[1, 4, 5, 5] z)
{
  z = Relu(x)
  y = Conv<pads = [1, 1, 1, 1]>(z, w)
}
"""


def model_with_weight(seed: int = 0) -> ir.Model:
    model = ir.from_onnx_text(MODEL)
    weight = np.random.default_rng(seed).standard_normal((6, 4, 3, 3)).astype(np.float32)
    tensor = ir.tensor(weight, name="w")
    conv = model.graph[1]
    value = conv.inputs[1]
    assert value is not None
    value.const_value, value.dtype, value.shape = tensor, ir.DataType.FLOAT, ir.Shape(weight.shape)
    model.graph.register_initializer(value)
    for index, node in enumerate(model.graph):
        node.name = f"n{index}"
    return model


def run(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def test_symmetric_weight_is_within_half_a_step_per_channel():
    weight = np.random.default_rng(1).standard_normal((5, 7, 3)) * np.array([1e-6, 1, 10, 0, 1e4])[:, None, None]
    quantized, scale, zero = quantize_weight(weight, 0)
    assert quantized.dtype == np.int8
    assert scale.shape == zero.shape == (5,)
    assert not zero.any()
    assert quantized.min() >= -127
    assert np.abs(quantized[[0, 1, 2, 4]]).max(axis=(1, 2)).tolist() == [127] * 4
    error = np.abs(quantized * scale[:, None, None] - weight).max(axis=(1, 2))
    assert (error <= 0.5 * scale * (1 + 1e-6)).all()
    assert not quantized[3].any()


def test_asymmetric_weight_covers_its_range_and_keeps_zero_exact():
    weight = np.random.default_rng(2).uniform(3, 9, (4, 8))
    quantized, scale, zero = quantize_weight(weight, 1, symmetric=False)
    assert quantized.dtype == np.uint8
    assert scale.shape == (8,)
    restored = (quantized.astype(np.float64) - zero) * scale
    assert np.abs(restored - weight).max() <= scale.max() / 2 + 1e-6


@pytest.mark.parametrize("bits", [2, 4, 7])
def test_fewer_bits_stay_in_their_range(bits: int):
    quantized, _, _ = quantize_weight(np.linspace(-1, 1, 64).reshape(8, 8), None, bits)
    assert quantized.max() == 2 ** (bits - 1) - 1 == -quantized.min()


def test_float16_scales_are_used_as_rounded():
    weight = np.random.default_rng(3).standard_normal((3, 50)) * np.array([1.0, 2e-5, 1e-9])[:, None]
    quantized, scale, _ = quantize_weight(weight, 0, scale_dtype=np.float16)
    assert scale.dtype == np.float16
    assert (scale > 0).all()
    error = np.abs(quantized * scale.astype(np.float64)[:, None] - weight)
    assert (error <= 0.5 * scale.astype(np.float64)[:, None] * (1 + 1e-6)).all()


def test_scales_round_up_and_never_to_zero():
    assert float(representable_scale(1 / 3, np.float16)) >= 1 / 3
    assert float(representable_scale(0.0)) > 0
    assert float(representable_scale(0.0, np.float16)) == 2.0**-24
    assert float(symmetric_scale(-2.0, 1.0)) == pytest.approx(2 / 127, rel=1.2e-7)
    scale, zero = asymmetric_scale(-1.0, 3.0)
    assert float(scale) == pytest.approx(4 / 255, rel=1.2e-7)
    assert int(zero) == 64
    assert zero.dtype == np.uint8


def test_bad_weights_are_refused():
    with pytest.raises(PassError, match="9 bits"):
        quantize_weight(np.ones((2, 2)), 0, 9)
    with pytest.raises(PassError, match="not finite"):
        quantize_weight(np.array([[np.nan, 1.0]]), 0)


@pytest.mark.parametrize("stored", [True, False])
def test_pairs_compute_what_numpy_computes(stored: bool):
    model = model_with_weight()
    weight = model.graph.initializers["w"].const_value.numpy()
    scale = symmetric_scale(0.0, 2.5)
    restored = insert_qdq(model, "z", scale, consumers=[model.graph.node("n1")])
    dequantized_weight(model, "w", 0, stored=stored)
    assert restored.dtype == ir.DataType.FLOAT
    assert ("w" in model.graph.initializers) is (not stored)

    x = np.random.default_rng(4).standard_normal((1, 4, 5, 5)).astype(np.float32)
    y, z = run(model, {"x": x})
    np.testing.assert_array_equal(z, np.maximum(x, 0))  # the output is not quantized on its way out
    dense = model_with_weight()
    integers, scales, _ = quantize_weight(weight, 0)
    dense.graph.initializers["w"].const_value = ir.tensor(integers * scales[:, None, None, None], name="w")
    dense.graph[1].replace_input_with(0, dense.graph.inputs[0])
    fake = np.clip(np.rint(np.maximum(x, 0) / scale), -128, 127).astype(np.float32) * scale
    np.testing.assert_allclose(y, run(dense, {"x": fake})[0], rtol=1e-5, atol=1e-6)


def test_names_stay_unique_when_a_value_is_quantized_twice():
    model = model_with_weight()
    insert_qdq(model, "z", 0.1)
    insert_qdq(model, "z", 0.2)
    names = [n.name for n in model.graph] + [v.name for n in model.graph for v in n.outputs]
    assert len(set(names)) == len(names)


def test_errors_name_the_value():
    with pytest.raises(PassError, match="'nowhere'"):
        insert_qdq(model_with_weight(), "nowhere", 0.1)
    with pytest.raises(PassError, match="'z'"):
        insert_qdq(model_with_weight(), "z", 0.0)
    with pytest.raises(PassError, match="'z' is not an initializer"):
        dequantized_weight(model_with_weight(), "z", 0)


def test_a_refusal_is_false_and_says_why():
    assert not Refused("too narrow")
    assert str(Refused("too narrow")) == "too narrow"


@pytest.mark.parametrize("opset", [11, 13])
def test_a_model_that_stays_at_an_old_opset_stays_float(opset: int) -> None:
    """As one with a Loop does, whose body cannot be lifted; every node says so."""
    model = parse(
        "g (float[1, 16, 8, 8] x) => (float[1, 16, 6, 6] y) { y = Conv (x, w) }",
        w=(16, 16, 3, 3),
    )
    model.graph[0].name, model.graph.opset_imports[""] = "conv", opset
    for eligible in (x86_eligible, tensorrt_eligible):
        found = eligible(model)["conv"]
        assert bool(found) == (opset == 13)
        assert opset == 13 or str(found) == "the model stays at opset 11, and INT8 needs opset 13"
