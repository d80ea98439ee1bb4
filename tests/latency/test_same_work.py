"""A network is a proxy model of another only if kernels and sizes are the same."""

from collections.abc import Callable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.latency.same_work import same_work


def network(*, seed: int = 0, width: int = 8, bias: bool = True, rest: str = "/b", axis: int = 1) -> ir.Model:
    """Two branches from one convolution, joined."""
    rng = np.random.default_rng(seed)
    weights = {"w": rng.standard_normal((width, 3, 3, 3)).astype(np.float32), "shape": np.array([0, -1], np.int64)}
    weights["bias"] = rng.standard_normal(width).astype(np.float32)
    read = ["x", "w", "bias"] if bias else ["x", "w"]
    if not bias:
        del weights["bias"]
    nodes = [
        onnx.helper.make_node("Conv", read, ["c"], f"conv{rest}"),
        onnx.helper.make_node("Relu", ["c"], [f"r{rest}"], f"relu{rest}"),
        onnx.helper.make_node("Sigmoid", ["c"], [f"s{rest}"], f"sigmoid{rest}"),
        onnx.helper.make_node("Concat", [f"r{rest}", f"s{rest}"], ["j"], f"concat{rest}", axis=axis),
        onnx.helper.make_node("Reshape", ["j", "shape"], ["y"], f"reshape{rest}"),
    ]
    if rest != "/b":
        nodes[1], nodes[2] = nodes[2], nodes[1]
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    given = [onnx.numpy_helper.from_array(a, n) for n, a in weights.items()]
    return ir.from_proto(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", inputs, outputs, given)))


@pytest.mark.parametrize("other", [network(seed=1), network(bias=False), network(rest="/other")])
def test_values_names_order_and_a_bias_do_not_matter(other: ir.Model) -> None:
    assert same_work(network(), other)
    assert same_work(other, network())


def without_relu(model: ir.Model) -> None:
    relu = next(n for n in model.graph if n.op_type == "Relu")
    for reader, index in tuple(relu.outputs[0].uses()):
        reader.replace_input_with(index, relu.inputs[0])


def swapped(model: ir.Model) -> None:
    concat = next(n for n in model.graph if n.op_type == "Concat")
    first, second = concat.inputs
    concat.replace_input_with(0, second)
    concat.replace_input_with(1, first)


def in_half(model: ir.Model) -> None:
    value = model.graph.initializers["w"]
    assert value.const_value is not None
    value.const_value = ir.Tensor(value.const_value.numpy().astype(np.float16), name="w")


def reshaped(model: ir.Model) -> None:
    model.graph.initializers["shape"].const_value = ir.Tensor(np.array([-1, 1]), name="shape")


@pytest.mark.parametrize("change", [without_relu, swapped, in_half, reshaped])
def test_another_node_order_of_inputs_type_or_shape_is_other_work(change: Callable[[ir.Model], None]) -> None:
    model = network()
    change(model)
    assert not same_work(network(), model)


def test_another_width_or_attribute_is_other_work() -> None:
    assert not same_work(network(), network(width=16))
    assert not same_work(network(), network(axis=2))


def test_what_a_subgraph_does_is_not_told() -> None:
    model = network()
    branch = ir.Attr("then_branch", ir.AttributeType.GRAPH, network().graph)
    model.graph.append(ir.Node("", "If", [model.graph.inputs[0]], [branch], name="if"))
    assert not same_work(model, model)
