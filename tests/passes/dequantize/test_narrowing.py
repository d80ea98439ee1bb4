"""The float32 form of a bfloat16 model is written in bfloat16 again, node by node as the user's."""

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune import graph as graphs
from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.passes.dequantize.narrowing import in_bfloat16
from edgeprune.passes.dequantize.source import float_source

ISLAND = """net (bfloat16[n,6,8] x, int64[1] k) => (bfloat16[n,6,5] y, float[n,6,16] s) {
    [first] a = MatMul(x, w1)
    [up] u = Cast<to=1>(a)
    [soft] s = Softmax(u)
    [down] d = Cast<to=16>(s)
    [number] c = Cast<to=16>(k)
    [times] t = Mul(d, c)
    [second] b = MatMul(t, w2)
    [larger] z = Resize<mode="nearest">(b, , scales)
    [act] y = Relu(z)
}"""
BRANCH = """net (bfloat16[2,8] x, bool c) => (bfloat16[2,8] y) {
    a = MatMul(x, w1)
    y = If(c) <then_branch = one () => (bfloat16[2,8] p) { p = Relu(a) },
               else_branch = two () => (bfloat16[2,8] q) { q = Neg(a) }>
}"""


def read(text: str, path: Path, **shapes: tuple[int, ...]) -> ir.Model:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 19]>\n{text}')
    random = np.random.default_rng(0)
    kind = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    for name, shape in shapes.items():
        values = random.standard_normal(shape).astype(kind)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    if "scales" in text:
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "scales"))
    onnx.save(model, path)
    return graphs.load(path)


def test_every_node_computes_in_its_type_again(tmp_path: Path) -> None:
    model = read(ISLAND, tmp_path / "net.onnx", w1=(8, 16), w2=(16, 5))
    source = float_source(model)
    again = in_bfloat16(source.model, source.interface)
    kinds = {str(n.name): n.outputs[0].dtype for n in again.graph}
    narrow = {name for name, kind in kinds.items() if kind == ir.DataType.BFLOAT16}
    assert {"first", "number", "times", "second", "act"} <= narrow
    assert kinds["soft"] == ir.DataType.FLOAT
    assert [v.dtype for v in again.graph.outputs] == [ir.DataType.BFLOAT16, ir.DataType.FLOAT]
    assert [str(v.name) for v in again.graph.outputs] == ["y", "s"]
    weights = {str(v.name): v.dtype for v in again.graph.initializers.values()}
    assert {weights["w1"], weights["w2"]} == {ir.DataType.BFLOAT16}
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 6, 8)).astype(np.float32), "k": np.array([3])}
    wanted, got = (float_source(m).reference for m in (model, again))
    assert wanted is not None
    assert got is not None
    for a, b in zip(OnnxRuntime().load(wanted).run(feeds), OnnxRuntime().load(got).run(feeds), strict=True):
        assert np.array_equal(a, b)


def test_a_model_with_bodies_keeps_float32_inside(tmp_path: Path) -> None:
    source = float_source(read(BRANCH, tmp_path / "net.onnx", w1=(8, 8)))
    again = in_bfloat16(source.model, source.interface)
    assert {v.dtype for v in again.graph.initializers.values()} == {ir.DataType.FLOAT}
    assert [v.dtype for v in (again.graph.inputs[0], again.graph.outputs[0])] == [ir.DataType.BFLOAT16] * 2


@pytest.mark.parametrize("opset", [19, 22])
def test_an_operator_without_a_bfloat16_form_stays_in_float32(opset: int, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]>\n'
        "net (bfloat16[1,4,5,5] x) => (bfloat16[1,2,5,5] y) { [cut] y = Conv(x, w) }"
    )
    kind = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((2, 4, 1, 1), kind), "w"))
    source = float_source(ir.from_proto(model), verify=False)
    again = in_bfloat16(source.model, source.interface)
    (conv,) = (n for n in again.graph if n.op_type == "Conv")
    assert conv.outputs[0].dtype == (ir.DataType.BFLOAT16 if opset == 22 else ir.DataType.FLOAT)
    assert again.graph.outputs[0].dtype == ir.DataType.BFLOAT16
