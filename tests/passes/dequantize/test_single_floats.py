"""Models of other float types compute in float32 and keep their interface."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

from edgeprune.passes.dequantize import float_source
from edgeprune.passes.dequantize.bfloat16 import with_interface
from tests.passes.dequantize.models import outputs


def _model(dtype, array_type):
    rng = np.random.default_rng(0)
    nodes = [
        h.make_node("Cast", ["w32"], ["w"], to=dtype),
        h.make_node("Conv", ["x", "w"], ["c"]),
        h.make_node("Cast", ["c"], ["up"], to=T.FLOAT),
        h.make_node("Softplus", ["up"], ["island"]),
        h.make_node("Cast", ["island"], ["down"], to=dtype),
        h.make_node("Where", ["mask", "down", "low"], ["y"]),
        h.make_node("Conv", ["y", "v"], ["z"]),
    ]
    inits = {
        "w32": rng.standard_normal((8, 3, 1, 1)).astype(np.float32),
        "v": rng.standard_normal((4, 8, 1, 1)).astype(array_type),
        "mask": np.array([[[[True, False]]]]),
        "low": np.array(-100.0, array_type),
    }
    graph = h.make_graph(
        nodes,
        "half",
        [h.make_tensor_value_info("x", dtype, ["n", 3, 2, 2])],
        [h.make_tensor_value_info(name, dtype, ["n", k, 2, 2]) for name, k in (("z", 4), ("y", 8))],
        [nh.from_array(v, k) for k, v in inits.items()],
    )
    return ir.serde.deserialize_model(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8))


def _assert_same(model, x, tolerance):
    source = float_source(model)
    inside = [n for n in source.model.graph if n.op_type != "Cast"]
    assert all(v.dtype == ir.DataType.FLOAT for n in inside for v in n.outputs)
    assert "float32" in source.note
    for before, after in zip(outputs(model, x=x), outputs(source.model, x=x), strict=True):
        assert before.dtype == after.dtype
        assert np.abs(before.astype(np.float64) - after).max() <= tolerance * np.abs(before).max()
    return source.model


def test_float16_computes_in_float32_with_the_interface_kept():
    x = np.random.default_rng(1).standard_normal((2, 3, 2, 2)).astype(np.float16)
    made = _assert_same(_model(T.FLOAT16, np.float16), x, 2e-3)  # float16 has 11 bits
    assert sum(n.op_type == "Cast" for n in made.graph) == 3  # one input, two outputs


def test_float64_computes_in_float32_with_the_interface_kept():
    w = np.random.default_rng(0).standard_normal((4, 5))
    graph = h.make_graph(
        [h.make_node("MatMul", ["x", "w"], ["y"])],
        "double",
        [h.make_tensor_value_info("x", T.DOUBLE, ["n", 4])],
        [h.make_tensor_value_info("y", T.DOUBLE, ["n", 5])],
        [nh.from_array(w, "w")],
    )
    model = ir.serde.deserialize_model(h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8))
    _assert_same(model, np.random.default_rng(1).standard_normal((2, 4)), 1e-5)


def test_bfloat16_keeps_its_interface():
    source = float_source(_model(T.BFLOAT16, ir.DataType.BFLOAT16.numpy()))
    assert [v.dtype for v in source.model.graph.inputs] == [ir.DataType.FLOAT]
    restored = with_interface(source.model, source.interface)
    assert [v.dtype for v in restored.graph.inputs] == [ir.DataType.BFLOAT16]
    assert [v.dtype for v in restored.graph.outputs] == [ir.DataType.BFLOAT16] * 2
    assert [v.name for v in restored.graph.outputs] == [v.name for v in source.model.graph.outputs]
    weights = [v for v in source.model.graph.initializers.values() if v.name in ("w", "v")]
    assert [v.dtype for v in weights] == [ir.DataType.FLOAT] * 2


def test_float32_model_is_untouched():
    source = float_source(_model(T.FLOAT, np.float32))
    assert source.note == ""
    assert not any(n.op_type == "Cast" for n in source.model.graph)
