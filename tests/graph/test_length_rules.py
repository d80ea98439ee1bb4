"""Shapes of results as lengths of the operands: evaluated at a size, they are the shapes that onnxruntime gives."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.graph import dim_keys, infer_shapes
from edgeprune.lengths import evaluate
from tests.passes.models import parse, random, run

SIZES = {"n": 3, "h": 37, "w": 50}


def check(body: str, opset: int = 17, **weights: np.ndarray) -> None:
    """Derive the shape of ``y`` from ``x`` of shape [n, 4, h, w], and compare it with a run."""
    model = parse(f"g (float[n, 4, h, w] x) => (float y) {{ {body} }}", opset=opset, **weights)
    dims = dim_keys(infer_shapes(model).graph.outputs[0])
    assert dims is not None
    (result,) = run(model, x=random(3, 4, 37, 50))
    assert tuple(evaluate(d, SIZES) for d in dims) == result.shape


def ints(*items: int) -> np.ndarray:
    return np.asarray(items, np.int64)


@pytest.mark.parametrize(
    ("body", "weights"),
    [
        ("y = Reshape(x, t)", {"t": ints(0, 2, 2, -1)}),
        ("y = Reshape(x, t)", {"t": ints(-1, 4)}),
        ("y = Flatten<axis = -2>(x)", {}),
        ("y = Concat<axis = 3>(x, x, c)", {"c": random(3, 4, 37, 2)}),
        ("t = Transpose<perm = [0, 2, 3, 1]>(x) y = MatMul(t, m)", {"m": random(4, 6)}),
        ("s = Shape(x) y = Expand(c, s)", {"c": random(4, 1, 1)}),
        ("y = Tile(x, t)", {"t": ints(1, 2, 1, 3)}),
        ("y = Pad(x, p)", {"p": ints(0, 0, 1, 2, 0, 0, 3, -4)}),
        ("y = Slice(x, a, b, c, d)", {"a": ints(1, -9), "b": ints(-1, 1 << 40), "c": ints(2, 3), "d": ints(3, 2)}),
        ("y = Slice(x, a, b, c, d)", {"a": ints(-1), "b": ints(-(1 << 40)), "c": ints(3), "d": ints(-2)}),
        ("y = DepthToSpace<blocksize = 2>(x)", {}),
        ("z = Pad(x, p) y = SpaceToDepth<blocksize = 2>(z)", {"p": ints(0, 0, 0, 0, 0, 0, 1, 0)}),
        ("y = Resize(x, , s)", {"s": np.asarray([1, 1, 0.5, 1.5], np.float32)}),
        (
            "s = Shape(x) l = Div(s, d) z = ConstantOfShape(l) y = Add(z, one)",
            {"d": ints(1, 2, 5, 7), "one": random(1)},
        ),
    ],
)
def test_results(body: str, weights: dict[str, np.ndarray]) -> None:
    check(body, **weights)


def test_a_resize_of_some_axes() -> None:
    check("y = Resize<axes = [3, 2]>(x, , s)", opset=18, s=np.asarray([0.5, 2], np.float32))
    body = "l = Shape<start = 2, end = 3>(x) m = Mul(l, two) y = Resize<axes = [-1]>(x, , , m)"
    check(body, opset=18, two=ints(2))


def test_the_best_of_an_open_number() -> None:
    check("y, i = TopK<axis = 2>(x, k)", k=ints(5))
    check("v, i = TopK<axis = -1>(x, k) y = Cast<to = 1>(i)", k=ints(7))
    body = "s = Shape<start = 3>(x) m = Concat<axis = 0>(s, c) k = ReduceMin<keepdims = 1>(m) y, i = TopK(x, k)"
    check(body, opset=18, c=ints(20))
    check(body, opset=18, c=ints(60))


def test_what_one_condition_selects_has_one_length() -> None:
    model = parse(
        """g (float[n, 6] x, float[n, 6] z, bool[n] c) => (float y, float e) {
            i = NonZero(c) r = Squeeze(i, first) g = Gather(x, r) k = Compress<axis = 0>(z, c) y = Add(g, k) q = Relu(y)
            long = Greater(x, z) e = Compress(x, long)
        }""",
        first=ints(0),
    )
    infer_shapes(model)
    shapes = {str(v.name): dim_keys(v) for node in model.graph for v in node.outputs}
    assert shapes["g"] == shapes["k"] == shapes["q"] == (shapes["r"][0], 6)
    assert shapes["e"][0] != shapes["r"][0]
    model.graph.inputs[2].shape = ir.Shape([4])
    model.graph.inputs[0].shape = model.graph.inputs[1].shape = ir.Shape([4, 6])
    again = {str(v.name): dim_keys(v) for node in infer_shapes(model).graph for v in node.outputs}
    assert again["q"] == shapes["q"]  # four of which are chosen is still not known


def test_a_symbol_goes_when_the_length_is_known() -> None:
    model = parse("g (float[n, 6] x, int64[2] t) => (float y) { r = Reshape(x, t) y = Relu(r) }")
    infer_shapes(model)
    assert dim_keys(model.graph.outputs[0]) == ("?r[0]", "?r[1]")
    target = ir.Value(name="u", const_value=ir.tensor(ints(3, -1), name="u"))
    model.graph.register_initializer(target)
    model.graph[0].replace_input_with(1, target)
    assert dim_keys(infer_shapes(model).graph.outputs[0]) == (3, "2*n")
