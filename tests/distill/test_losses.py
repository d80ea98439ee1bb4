"""Every loss: 0 where both networks agree, larger the farther they are apart, with gradients towards the teacher."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.graph import clone, infer_shapes
from edgeprune.outputs import find_outputs
from edgeprune.outputs.output_spec import CLASS_SCORES, TOP1, Outputs, OutputSpec
from edgeprune.recovery import trainable
from tests.small_models import build, normal

torch = pytest.importorskip("torch")

from edgeprune.distill.losses import LOSSES, Pair  # noqa: E402
from edgeprune.executor import GraphModule  # noqa: E402

CLASSIFIER = """net (float[4, 3, 8, 8] x) => (float[4, 6] y) {
  a0 = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  a = Relu (a0)
  c0 = Conv (a, w1, b1)
  c = Relu (c0)
  p = GlobalAveragePool (c)
  f = Flatten (p)
  y = Gemm (f, w2, b2)
}"""
DETECTOR = """net (float[4, 3, 8, 8] x) => (float[4, 6, 64] y) {
  a0 = Conv <pads = [1, 1, 1, 1]> (x, w0, b0)
  a = Relu (a0)
  s = Conv (a, w1, b1)
  t = Conv (a, w2, b2)
  scores0 = Reshape (s, flat2)
  scores = Sigmoid (scores0)
  sides0 = Reshape (t, split)
  sides = Softmax <axis = 2> (sides0)
  boxes0 = MatMul (bins, sides)
  boxes = Reshape (boxes0, flat4)
  y = Concat <axis = 1> (boxes, scores)
}"""
ATTENTION = """net (float[4, 5, 8] x) => (float[4, 6] y) {
  q = MatMul (x, w0)
  k = MatMul (x, w1)
  v = MatMul (x, w2)
  kt = Transpose <perm = [0, 2, 1]> (k)
  l = MatMul (q, kt)
  p = Softmax <axis = -1> (l)
  o = MatMul (p, v)
  m = ReduceMean <keepdims = 0> (o, one)
  y = MatMul (m, w3)
}"""


def network(name: str) -> ir.Model:
    if name == "classifier":
        weights = {"w0": normal(16, 3, 3, 3), "w1": normal(16, 16, 1, 1), "w2": 4 * normal(16, 6)}
        return build(CLASSIFIER, **weights, b0=normal(16), b1=normal(16), b2=normal(6))
    if name == "attention":
        weights = {f"w{i}": 2 * normal(8, 8, seed=i) for i in range(3)}
        model = build(ATTENTION, **weights, w3=4 * normal(8, 6), integers={"one": [1]})
        return infer_shapes(model)
    weights = {"w0": normal(16, 3, 3, 3), "w1": 4 * normal(2, 16, 1, 1), "w2": 3 * normal(16, 16, 1, 1)}
    weights |= {"b0": normal(16), "b1": normal(2), "b2": normal(16), "bins": np.arange(4).reshape(1, 4)}
    integers = {"flat2": [4, 2, 64], "split": [4, 4, 4, 64], "flat4": [4, 4, 64]}
    return build(DETECTOR, **weights, integers=integers)


def moved(model: ir.Model, size: float) -> ir.Model:
    """Other weights, ``size`` times a fixed direction away."""
    other = clone(model)
    for name in trainable(model):
        tensor = other.graph.initializers[name].const_value
        assert tensor is not None
        change = normal(*tensor.shape, seed=9) if tensor.numpy().ndim > 1 else 0.1 * normal(*tensor.shape, seed=9)
        other.graph.initializers[name].const_value = ir.Tensor(tensor.numpy() + size * change, name=name)
    return other


SCORES = Outputs(("y",), (OutputSpec(("y",), CLASS_SCORES, TOP1, "in a test"),))
CASES = [
    ("classifier", "kd"),
    ("classifier", "logit-standard"),
    ("classifier", "feature"),
    ("classifier", "cwd"),
    ("detector", "kd"),
    ("detector", "output"),
    ("detector", "feature"),
    ("attention", "attention"),
    ("attention", "feature"),
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_a_loss_is_the_smaller_the_nearer_the_student(kind: str, name: str) -> None:
    dense = network(kind)
    rng = np.random.default_rng(0)
    shape = [int(str(d)) for d in dense.graph.inputs[0].shape or ()]
    x = {"x": rng.standard_normal(shape).astype(np.float32)}
    teacher = GraphModule(dense)
    wanted = teacher.run(x)
    shared = tuple(str(o.name) for n in dense.graph for o in n.outputs if o.dtype == ir.DataType.FLOAT)
    outputs = SCORES if kind == "classifier" else find_outputs(dense, [[wanted["y"]]])
    pair = Pair(dense, dense, shared, {}, outputs, {"y": 0}, wanted)
    found = LOSSES[name](pair)
    assert found is not None
    feeds = {"x": torch.from_numpy(x["x"])}
    with torch.no_grad():
        target = teacher(feeds, found.names)
    losses = []
    for size in (0.0, 0.1, 0.4):
        model = moved(dense, size)
        student = GraphModule(model, trainable(model))
        loss = found.distance(target, student(feeds, found.names))
        losses.append(float(loss.detach()))
    assert abs(losses[0]) <= 1e-5 * losses[2]
    assert losses[0] < losses[1] < losses[2]
    # A small step against the gradient from the farthest student makes the loss smaller.
    loss.backward()
    with torch.no_grad():
        for weight in student.weights:
            if weight.grad is not None:
                weight -= 1e-3 * weight.grad / (weight.grad.norm() + 1e-12)
    assert float(found.distance(target, student(feeds, found.names)).detach()) < losses[2]


def test_a_loss_that_compares_nothing_is_left_out() -> None:
    dense = network("classifier")
    wanted = GraphModule(dense).run({"x": np.zeros((4, 3, 8, 8), np.float32)})
    shared = tuple(str(o.name) for n in dense.graph for o in n.outputs)
    pair = Pair(dense, dense, shared, {}, SCORES, {"y": 0}, wanted)
    assert LOSSES["attention"](pair) is None
    assert LOSSES["output"](pair) is None  # class scores are compared by kd
