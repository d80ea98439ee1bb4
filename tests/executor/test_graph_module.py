"""A graph computes in PyTorch what onnxruntime computes, its weights get gradients, and what is constant is folded."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.backends import OnnxRuntime
from edgeprune.errors import ModelError
from tests.small_models import build, normal

torch = pytest.importorskip("torch")

from edgeprune.executor import GraphModule  # noqa: E402

CONV = """conv (float[1, 3, 8, 8] x) => (float[1, 4] y) {
  a = Conv <pads = [1, 1, 1, 1]> (x, w, b)
  r = Relu (a)
  p = GlobalAveragePool (r)
  f = Flatten (p)
  y = MatMul (f, v)
}"""


def conv_network() -> ir.Model:
    return build(CONV, w=normal(6, 3, 3, 3), b=normal(6), v=normal(6, 4))


def feeds(model: ir.Model, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {str(v.name): [d if isinstance(d, int) else 2 for d in v.shape or ()] for v in model.graph.inputs}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def assert_same(model: ir.Model, given: dict[str, np.ndarray]) -> None:
    wanted = OnnxRuntime().load(model).run(given)
    for a, b in zip(wanted, GraphModule(model).run(given).values(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_it_computes_what_onnxruntime_computes() -> None:
    assert_same(conv_network(), feeds(conv_network()))


def test_inner_values_can_be_asked_for() -> None:
    model = conv_network()
    found = GraphModule(model).run(feeds(model), ["r", "y"])
    assert list(found) == ["r", "y"]
    assert found["r"].shape == (1, 6, 8, 8)


def test_a_value_that_is_not_there_is_an_error() -> None:
    with pytest.raises(ModelError, match="no value 'q'"):
        GraphModule(conv_network()).run(feeds(conv_network()), ["q"])


def test_gradients_are_those_of_finite_differences() -> None:
    model = conv_network()
    module, given = GraphModule(model, ["w", "b", "v"]).double(), feeds(model)
    x = {"x": torch.from_numpy(given["x"]).double()}
    module(x)["y"].square().sum().backward()
    for name, weight in module.named_weights.items():
        place = (0,) * weight.dim()
        gradient, step = weight.grad[place].item(), 1e-4
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
                values.append(module(x)["y"].square().sum().item())
                weight[place] -= sign * step
        assert gradient == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4), name


def test_an_unknown_operator_is_refused_with_its_node() -> None:
    model = build("g (float[2, 2] x) => (float[2, 2] y) { y = Det (x) }")
    with pytest.raises(ModelError, match="the operator Det of node 'node_0' cannot be run in PyTorch"):
        GraphModule(model)


def test_an_operator_of_another_domain_is_refused_with_its_domain() -> None:
    node = ir.Node("com.acme", "Relu", [], num_outputs=1, name="own")
    graph = ir.Graph([], node.outputs, nodes=[node], opset_imports={"": 17, "com.acme": 1})
    with pytest.raises(ModelError, match=r"com\.acme::Relu of node 'own'"):
        GraphModule(ir.Model(graph, ir_version=9))


OPEN = """open (float[n, 4, k] x) => (float[n, m, 2] y) {
  shape = Shape (x)
  two = Constant <value = int64[1] {2}> ()
  zero = Constant <value = int64[1] {0}> ()
  n = Gather (shape, zero)
  all = Constant <value = int64[1] {-1}> ()
  target = Concat <axis = 0> (n, all, two)
  y = Reshape (x, target)
}"""


@pytest.mark.parametrize("shape", [(1, 4, 2), (3, 4, 6)])
def test_arithmetic_on_shapes_is_done_once(shape: tuple[int, ...]) -> None:
    model = build(OPEN)
    module, x = GraphModule(model), np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (wanted,) = OnnxRuntime().load(model).run({"x": x})
    np.testing.assert_array_equal(module.run({"x": x})["y"], wanted)
    (program,) = module._programs.values()
    assert [step.node for step in program.steps] == ["node_6"]


def test_what_follows_from_constants_alone_is_folded_unless_it_is_trained() -> None:
    text = "g (float[2, 3] x) => (float[2, 3] y) { t = Transpose (w)\n s = Mul (t, t)\n y = MatMul (x, s) }"
    model = build(text, w=normal(3, 3))
    for trained, steps in (([], 1), (["w"], 4)):
        module = GraphModule(model, trained)
        module.run(feeds(model))
        (program,) = module._programs.values()
        assert len(program.steps) == steps


DATA_SIZED = """g (float[6] x) => (float[k] y) {
  zero = Constant <value = float {0.0}> ()
  more = Greater (x, zero)
  at = NonZero (more)
  size = Shape (at)
  one = Constant <value = int64[1] {1}> ()
  n = Gather (size, one)
  flat = Reshape (at, n)
  y = Gather (x, flat)
}"""


def test_shapes_that_depend_on_data_are_not_folded() -> None:
    model = build(DATA_SIZED)
    module = GraphModule(model)
    for x in (np.array([1, -1, 2, -2, 3, -3]), np.array([-1, -1, -1, 5, 6, -1])):
        np.testing.assert_array_equal(module.run({"x": x.astype(np.float32)})["y"], x[x > 0])


def test_weights_in_half_precision_are_trained_in_float32() -> None:
    text = "g (float[2, 3] x) => (float[2, 4] y) { h = Cast <to = 1> (w)\n y = MatMul (x, h) }"
    model = build(text, w=normal(3, 4))
    model.graph.initializers["w"].const_value = ir.tensor(normal(3, 4).astype(np.float16), name="w")
    module = GraphModule(model, ["w"])
    (weight,) = module.weights
    assert weight.dtype == torch.float32
    module({"x": torch.ones(2, 3)})["y"].sum().backward()
    assert weight.grad is not None


def test_optional_outputs_may_be_absent() -> None:
    text = "g (float[3, 2, 4] x) => (float[1, 2, 5] h) { , h = LSTM <hidden_size = 5> (x, w, r) }"
    model = build(text, w=normal(1, 20, 4), r=normal(1, 20, 5))
    assert_same(model, feeds(model))


def test_both_ways_of_a_gru_with_a_bias() -> None:
    text = """g (float[3, 2, 4] x) => (float[3, 2, 2, 5] y) {
      y = GRU <hidden_size = 5, direction = "bidirectional", linear_before_reset = 1> (x, w, r, b)
    }"""
    model = build(text, w=normal(2, 15, 4), r=normal(2, 15, 5), b=normal(2, 30))
    assert_same(model, feeds(model))
