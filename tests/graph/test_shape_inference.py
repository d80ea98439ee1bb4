"""Shapes of all values: symbols, sizes that are given, and what declarations leave open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.errors import UsageError
from edgeprune.graph import model_io as graphs

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[batch, 3, 8, 8] x) => (float[batch, 4, 8, 8] y) {
    h = Conv<pads=[1, 1, 1, 1]>(x, w)
    y = Relu(h)
}
"""


def loaded(text: str, folder: Path) -> ir.Model:
    proto = onnx.parser.parse_model(text)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    return graphs.load(written(proto, folder))


def written(proto: onnx.ModelProto, folder: Path) -> Path:
    file = folder / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    return file


@pytest.fixture
def model(tmp_path: Path) -> ir.Model:
    return loaded(TEXT, tmp_path)


def shape_of(model: ir.Model, name: str) -> str:
    values = {value.name: value for node in model.graph for value in node.outputs}
    return str(values[name].shape)


def test_symbols_are_kept_and_can_be_fixed(model: ir.Model) -> None:
    graphs.infer_shapes(model)
    assert shape_of(model, "h") == "[batch,4,8,8]"
    fixed = graphs.infer_shapes(model, {"x": (5, 3, 8, 8)})
    assert shape_of(fixed, "h") == "[5,4,8,8]"
    assert str(fixed.graph.outputs[0].shape) == "[5,4,8,8]"


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 3, 8, 8)}, "names 'z', but the model's inputs are 'x'"),
        ({"x": (1, 3, 8)}, "3 dimensions, but it has 4"),
        ({"x": (1, 4, 8, 8)}, "axis 1 of input 'x' the size 4, but it must be 3"),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], message: str, model: ir.Model) -> None:
    with pytest.raises(UsageError, match=message):
        graphs.infer_shapes(model, shapes)


def test_stale_shapes_can_be_forgotten(model: ir.Model) -> None:
    graphs.infer_shapes(model)
    value = model.graph.initializers["w"]
    tensor = ir.Tensor(np.ones((2, 3, 3, 3), np.float32), name="w")
    value.const_value, value.shape = tensor, ir.Shape(tensor.shape)
    graphs.infer_shapes(model, keep=False)
    assert shape_of(model, "h") == "[batch,2,8,8]"
    assert str(model.graph.outputs[0].shape) == "[batch,2,8,8]"


@pytest.mark.parametrize("unknown", ["?", "-1", "None", "*"])
def test_a_name_that_stands_for_nothing_known_is_no_symbol(unknown: str, tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w"))
    for info in (*proto.graph.input, *proto.graph.output):
        for axis in (0, 2, 3):
            info.type.tensor_type.shape.dim[axis].dim_param = unknown
    model = graphs.load(written(proto, tmp_path))
    sizes = graphs.infer_shapes(model).graph.inputs[0].shape
    assert sizes is not None
    assert [d if isinstance(d, int) else d.value for d in sizes] == [None, 3, None, None]
    fixed = graphs.infer_shapes(model, {"x": (1, 3, 6, 10)})
    assert str(fixed.graph.outputs[0].shape) == "[1,4,6,10]"


LENGTHS = """
<ir_version: 8, opset_import: ["" : 17]>
agraph (float[2, 3, 8, 8] x, bool c) => (float[p, q] y)
<int64[1] minus = {-1}, int64 zero = {0}, int64[1] first = {0}> {
    s = Shape(x)
    n = Gather(s, zero)
    m = Unsqueeze(n, first)
    t = Concat<axis = 0>(m, minus)
    r = Reshape(x, t)
    y = Relu(r)
}
"""


@pytest.mark.parametrize("forgotten", [{"r"}, {"t", "r"}, {"s", "n", "m", "t", "r"}])
def test_shapes_that_are_not_known_are_completed(forgotten: set[str]) -> None:
    model = graphs.infer_shapes(ir.from_proto(onnx.parser.parse_model(LENGTHS)))
    values = {value.name: value for node in model.graph for value in node.outputs}
    expected = {name: str(value.shape) for name, value in values.items()}
    assert expected["r"] == "[2,192]"
    for name in forgotten:
        values[name].shape = None
    graphs.complete_shapes(model)
    assert {name: str(value.shape) for name, value in values.items()} == expected


def test_shapes_around_control_flow_are_completed() -> None:
    body = (
        "If(c) <then_branch = a () => (float[u] t) { t = Relu(x) }, else_branch = b () => (float[u] t) { t = Neg(x) }>"
    )
    model = graphs.infer_shapes(ir.from_proto(onnx.parser.parse_model(LENGTHS.replace("Relu(r)", body))))
    (value,) = model.graph.outputs
    expected, value.shape = str(value.shape), None
    graphs.complete_shapes(model)
    assert str(value.shape) == expected
