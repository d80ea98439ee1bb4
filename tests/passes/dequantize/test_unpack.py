"""Every quantized format becomes the float model that it stands for."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgeprune.passes.dequantize import float_source, with_pairs
from tests.passes.dequantize.models import outputs, qoperator_model

MS = "com.microsoft"


def _model(nodes, inits, inputs, outputs_, *, opset=17, extra=()):
    graph = h.make_graph(nodes, "g", inputs, outputs_, [nh.from_array(np.asarray(v), k) for k, v in inits.items()])
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", opset), *extra], ir_version=9)
    onnx.checker.check_model(model)
    return ir.serde.deserialize_model(model)


def _info(name, shape, dtype=T.FLOAT):
    return h.make_tensor_value_info(name, dtype, shape)


def _error(a, b):
    return max(np.abs(x.astype(np.float64) - y).max() / np.abs(x).max() for x, y in zip(a, b, strict=True))


def test_qoperator_model_has_float_operators_and_ranges():
    model = qoperator_model()
    source = float_source(model)
    ops = {node.op_type for node in source.model.graph}
    assert ops <= {"Conv", "Clip", "Relu", "MaxPool", "Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "Softmax",
                   "GlobalAveragePool", "AveragePool", "Flatten", "Gemm", "MatMul", "Reshape"}  # fmt: skip
    assert len(source.ranges) >= 8
    assert "arrived quantized" in source.note
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    # 8 bits through ten layers: each adds at most a step of 1/255 of its range
    assert _error(outputs(model, x=x), outputs(source.model, x=x)) < 0.05
    pairs = {node.op_type for node in with_pairs(model).graph}
    assert {"QuantizeLinear", "DequantizeLinear", "Conv", "MatMul"} <= pairs
    assert not any(op.startswith("QLinear") for op in pairs)


def _dynamic(kind):
    rng = np.random.default_rng(1)
    w = rng.integers(0, 255, (8, 3, 3, 3)).astype(np.uint8)
    m = rng.integers(-127, 127, (8, 5)).astype(np.int8)
    nodes = [
        h.make_node("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
        h.make_node("ConvInteger", ["xq", "w", "xz", "wz"], ["c"], pads=[1, 1, 1, 1], name="conv_int"),
        h.make_node("Cast", ["c"], ["cf"], to=T.FLOAT),
        h.make_node("Mul", ["xs", "ws"], ["s"]),
        h.make_node("Mul", ["cf", "s"], ["y0"]),
        h.make_node("Add", ["y0", "b"], ["y1"]),
        h.make_node("Relu", ["y1"], ["y2"]),
        h.make_node("GlobalAveragePool", ["y2"], ["y3"]),
        h.make_node("Flatten", ["y3"], ["y4"]),
    ]
    if kind == "MatMulInteger":
        nodes += [
            h.make_node("DynamicQuantizeLinear", ["y4"], ["fq", "fs", "fz"]),
            h.make_node("MatMulInteger", ["fq", "m", "fz"], ["mi"]),
            h.make_node("Cast", ["mi"], ["mf"], to=T.FLOAT),
            h.make_node("Mul", ["fs", "ms"], ["fms"]),
            h.make_node("Mul", ["mf", "fms"], ["y"]),
        ]
    elif kind == "DynamicQuantizeMatMul":
        nodes.append(h.make_node(kind, ["y4", "m", "ms"], ["y"], domain=MS))
    else:
        nodes += [
            h.make_node("DynamicQuantizeLinear", ["y4"], ["fq", "fs", "fz"]),
            h.make_node(kind, ["fq", "m", "fs", "ms", "fz", "mz", "mb"], ["y"], domain=MS),
        ]
    inits = {"w": w, "wz": np.uint8(128), "ws": np.float32(0.01), "m": m, "ms": np.float32(0.02), "mz": np.int8(0),
             "mb": np.ones(5, np.float32), "b": rng.standard_normal((1, 8, 1, 1)).astype(np.float32)}  # fmt: skip
    used = {name for node in nodes for name in node.input}
    inits = {k: v for k, v in inits.items() if k in used}
    return _model(nodes, inits, [_info("x", [1, 3, 8, 8])], [_info("y", [1, 5])], extra=[h.make_opsetid(MS, 1)])


@pytest.mark.parametrize("kind", ["MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"])
def test_dynamic_model_is_a_float_model(kind):
    model = _dynamic(kind)
    source = float_source(model)
    assert {n.op_type for n in source.model.graph} <= {"Conv", "Relu", "GlobalAveragePool", "Flatten", "MatMul", "Add"}
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    assert _error(outputs(model, x=x), outputs(source.model, x=x)) < 0.02  # activations were rounded to 8 bits


def test_fused_relu_becomes_a_clip_and_zero_point_may_be_missing():
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s"], ["xq"]),  # uint8, zero point 0: cuts off what is negative
        h.make_node("DequantizeLinear", ["xq", "s"], ["xd"]),
        h.make_node("Mul", ["xd", "two"], ["y"]),
    ]
    inits = {"s": np.float32(0.01), "two": np.float32(2)}
    source = float_source(_model(nodes, inits, [_info("x", [1, 4])], [_info("y", [1, 4])]))
    x = np.array([[-3.0, 1.0, 2.5, 9.0]], np.float32)
    assert outputs(source.model, x=x)[0] == pytest.approx(np.array([[0.0, 2.0, 5.0, 5.1]]), abs=1e-5)
    assert list(source.ranges.values()) == [pytest.approx((0.0, 2.55))]


def test_integers_that_are_moved_become_moved_floats():
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        h.make_node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        h.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 3, 1]),
        h.make_node("Concat", ["t", "t"], ["c"], axis=3),
        h.make_node("DequantizeLinear", ["c", "s", "z"], ["y"]),
    ]
    inits = {"s": np.float32(0.05), "z": np.int8(0)}
    model = _model(nodes, inits, [_info("x", [1, 3, 4, 4])], [_info("y", [1, 2, 2, 6])])
    source = float_source(model)
    assert not any("Quantize" in n.op_type for n in source.model.graph)
    x = np.random.default_rng(0).standard_normal((1, 3, 4, 4)).astype(np.float32)
    assert np.abs(outputs(model, x=x)[0] - outputs(source.model, x=x)[0]).max() <= 0.025 + 1e-6  # half a step


def test_quantized_inputs_and_outputs_stay():
    nodes = [
        h.make_node("DequantizeLinear", ["x", "s", "zx"], ["xd"]),
        h.make_node("Relu", ["xd"], ["r"]),
        h.make_node("QuantizeLinear", ["r", "s", "zy"], ["y"]),
    ]
    inits = {"s": np.float32(0.05), "zx": np.uint8(120), "zy": np.int8(-3)}
    model = _model(nodes, inits, [_info("x", [1, 256], T.UINT8)], [_info("y", [1, 256], T.INT8)])
    source = float_source(model)
    assert not any("Quantize" in n.op_type for n in source.model.graph)
    x = np.arange(256, dtype=np.uint8)[None]
    before, after = outputs(model, x=x)[0], outputs(source.model, x=x)[0]
    assert after.dtype == np.int8
    np.testing.assert_array_equal(before, after)


def test_fake_quantized_weight_is_rounded_by_channel_and_old_opset():
    rng = np.random.default_rng(0)
    w = rng.standard_normal((4, 3, 1, 1)).astype(np.float32)
    nodes = [
        h.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"]),
        h.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"]),
        h.make_node("Conv", ["x", "wd"], ["y"]),
    ]
    inits = {"w": w, "ws": np.float32(0.02), "wz": np.int8(0)}
    model = _model(nodes, inits, [_info("x", [1, 3, 2, 2])], [_info("y", [1, 4, 2, 2])], opset=11)
    source = float_source(model)
    (stored,) = [v.const_value.numpy() for v in source.model.graph.initializers.values()]
    np.testing.assert_allclose(stored, np.clip(np.rint(w / np.float32(0.02)), -128, 127) * 0.02, atol=1e-6)


def test_what_has_no_float_form_stays_and_is_named():
    nodes = [
        h.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        h.make_node("Cast", ["q"], ["i"], to=T.INT32),
        h.make_node("Mul", ["i", "i"], ["j"]),
        h.make_node("Cast", ["j"], ["y"], to=T.FLOAT, name="squares"),
    ]
    nodes[1].name = "as_numbers"
    inits = {"s": np.float32(0.05), "z": np.int8(0)}
    source = float_source(_model(nodes, inits, [_info("x", [1, 4])], [_info("y", [1, 4])]))
    assert "stays quantized" in source.note
    assert "'as_numbers'" in source.note
    assert any(n.op_type == "QuantizeLinear" for n in source.model.graph)
