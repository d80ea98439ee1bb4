import numpy as np
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper

from edgeprune.backends.onnxruntime import OnnxRuntime
from edgeprune.graph.linear_layers import Linear, find_linears, weights_read_once
from tests.small_models import build, normal


def one_node(op: str, weight_shape: tuple, input_shape: tuple, bias: int = 0, **attributes) -> tuple[ir.Model, Linear]:
    inputs = ["x", "w"] + (["b"] if bias else [])
    tensors = [numpy_helper.from_array(normal(*weight_shape), "w")]
    if bias:
        tensors.append(numpy_helper.from_array(normal(bias, seed=1), "b"))
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], name="n", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", 1, input_shape)],
        [helper.make_tensor_value_info("y", 1, None)],
        tensors,
    )
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))
    return model, find_linears(model)["n"]


CASES = [
    ("Conv", (4, 6, 3, 3), (2, 6, 7, 9), {"pads": [1, 1, 1, 1]}),
    ("Conv", (4, 3, 3, 2), (2, 6, 7, 9), {"group": 2, "pads": [1, 0, 0, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", (6, 1, 3, 3), (2, 6, 7, 9), {"group": 6, "auto_pad": "VALID"}),
    ("Conv", (4, 6, 3, 3), (2, 6, 7, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", (4, 6, 3, 3), (2, 6, 7, 8), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("Conv", (4, 6, 3), (2, 6, 9), {"pads": [1, 1]}),
    ("Conv", (4, 6, 3, 3, 2), (1, 6, 5, 6, 7), {}),
    ("ConvTranspose", (6, 4, 2, 2), (2, 6, 5, 4), {"strides": [2, 2]}),
    (
        "ConvTranspose",
        (6, 2, 3, 4),
        (2, 6, 5, 4),
        {"group": 2, "strides": [2, 3], "pads": [1, 2, 0, 1], "output_padding": [1, 1]},
    ),
    ("ConvTranspose", (6, 4, 3, 3), (2, 6, 5, 4), {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    ("Gemm", (6, 5), (7, 6), {"alpha": 0.5}),
    ("Gemm", (5, 6), (7, 6), {"transB": 1, "beta": 2.0}),
    ("MatMul", (6, 5), (2, 3, 7, 6), {}),
]


@pytest.mark.parametrize(("op", "weight_shape", "input_shape", "attributes"), CASES)
def test_rows_times_matrix_are_the_outputs(op: str, weight_shape: tuple, input_shape: tuple, attributes: dict) -> None:
    model, layer = one_node(op, weight_shape, input_shape, **attributes)
    x = np.random.default_rng(0).standard_normal(input_shape).astype(np.float32)
    (y,) = OnnxRuntime(1).load(model).run({"x": x})
    weight = normal(*weight_shape)
    matrix = layer.matrix(weight)
    assert matrix.shape == (layer.groups, layer.outputs, layer.features)
    count = layer.positions(x.shape)
    assert count == y.size // (layer.groups * layer.outputs)
    few = np.sort(np.random.default_rng(1).choice(count, 5, replace=False))
    for chosen in (np.arange(count), few):
        predicted = layer.rows(x, chosen) @ matrix.transpose(0, 2, 1)
        np.testing.assert_allclose(predicted, layer.targets(y, chosen), rtol=0, atol=2e-5)


@pytest.mark.parametrize(("op", "weight_shape", "input_shape", "attributes"), CASES)
def test_matrix_and_weight_are_inverse(op: str, weight_shape: tuple, input_shape: tuple, attributes: dict) -> None:
    _, layer = one_node(op, weight_shape, input_shape, **attributes)
    weight = normal(*weight_shape)
    np.testing.assert_array_equal(layer.weight_from(layer.matrix(weight)), weight)


@pytest.mark.parametrize(("op", "weight_shape", "input_shape", "attributes"), CASES)
def test_each_feature_knows_its_channel(op: str, weight_shape: tuple, input_shape: tuple, attributes: dict) -> None:
    _, layer = one_node(op, weight_shape, input_shape, **attributes)
    shape = [1] * len(weight_shape)
    shape[layer.channel_axis] = -1
    channels = np.arange(weight_shape[layer.channel_axis])
    of_weight = np.broadcast_to(channels.reshape(shape), weight_shape).astype(np.float32)
    expected = layer.matrix(of_weight)[:, 0] / layer.scale
    np.testing.assert_array_equal(layer.feature_values(channels), expected)


def test_weights_on_the_left_of_a_matmul() -> None:
    model = build("g (float[n, 6, 5] x) => (float[n, 4, 5] y) { [n] y = MatMul(w, x) }", w=normal(4, 6))
    layer = find_linears(model)["n"]
    x = np.random.default_rng(0).standard_normal((3, 6, 5)).astype(np.float32)
    (y,) = OnnxRuntime(1).load(model).run({"x": x})
    chosen = np.arange(layer.positions(x.shape))
    rows = layer.rows(x, chosen) @ layer.matrix(normal(4, 6)).transpose(0, 2, 1)
    np.testing.assert_allclose(rows, layer.targets(y, chosen), rtol=0, atol=1e-5)


def test_the_bias_of_a_matmul_is_the_add_behind_it() -> None:
    model = build(
        """g (float[n, 6] x) => (float[n, 4] y, float[n, 4] z) {
            [one] a = MatMul(x, w)
            [add] y = Add(b, a)
            [two] c = MatMul(x, v)
            [scaled] z = Mul(c, b)
        }""",
        w=normal(6, 4),
        v=normal(6, 4),
        b=normal(4),
    )
    layers = find_linears(model)
    assert (layers["one"].bias.node, layers["one"].bias.index, layers["one"].bias.value) == ("add", 0, "b")
    assert layers["two"].bias.value == ""


def test_what_is_not_linear_in_its_input_has_no_view() -> None:
    model = build(
        """g (float[n, 4] x, float[4, 4] m) => (float[n, 4] y) {
            [inputs] a = MatMul(x, m)
            [turned] b = Gemm<transA = 1>(a, w)
            [shared] c = MatMul(a, w)
            [output] y = Relu(c)
        }""",
        w=normal(4, 4),
    )
    layers = find_linears(model)
    assert list(layers) == ["shared"]
    assert weights_read_once(model, layers.values()) == set()
