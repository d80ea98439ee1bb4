from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.passes.canonicalize.fold_constants import fold_node
from tests.passes.models import node, parse, random


def fold(text: str, op: str, **constants: np.ndarray) -> list[Any] | None:
    return fold_node(node(parse(text, **constants), op), 17)


INTS = np.array([[4, -7, 9], [1, 2, 3]], np.int64)


@pytest.mark.parametrize(
    ("call", "constants", "expected"),
    [
        ("Div(a, b)", {"a": np.array([7, -7, 6]), "b": np.array([2, 2, -4])}, [3, -3, -1]),
        ("Mod(a, b)", {"a": np.array([7, -7]), "b": np.array([3, 3])}, [1, 2]),
        ("Slice(a, s, e, x, t)", {"a": INTS, "s": [2], "e": [-9], "x": [1], "t": [-1]}, [[9, -7, 4], [3, 2, 1]]),
        ("Gather<axis=1>(a, i)", {"a": INTS, "i": np.array(-1)}, [9, 3]),
        ("Unsqueeze(a, x)", {"a": np.array([5, 6]), "x": [0, -1]}, [[[5], [6]]]),
        ("Squeeze(a)", {"a": np.array([[[5]]])}, 5),
        ("Reshape(a, s)", {"a": INTS, "s": [0, -1, 1]}, INTS.reshape(2, 3, 1).tolist()),
        ("Concat<axis=0>(a, b)", {"a": np.array([1]), "b": np.array([2, 3])}, [1, 2, 3]),
        ("Expand(a, s)", {"a": np.array([[1], [2]]), "s": [1, 3]}, [[1, 1, 1], [2, 2, 2]]),
        ("Range(a, b, c)", {"a": np.array(5), "b": np.array(0), "c": np.array(-2)}, [5, 3, 1]),
        ("Where(c, a, b)", {"c": np.array([True, False]), "a": np.array([1, 2]), "b": np.array([3, 4])}, [1, 4]),
        ("Shape<start=1>(a)", {"a": INTS}, [3]),
        ("ConstantOfShape<value=int64[1]{7}>(s)", {"s": [2]}, [7, 7]),
        ("Transpose(a)", {"a": INTS}, INTS.T.tolist()),
        ("Cast<to=1>(a)", {"a": np.array([2])}, [2.0]),
        ("Equal(a, b)", {"a": np.array([2, 3]), "b": np.array([2])}, [True, False]),
        ("CumSum(a, x)", {"a": np.array([1, 2, 3]), "x": np.array(0)}, [1, 3, 6]),
        ("ScatterND(a, i, u)", {"a": np.array([1, 2]), "i": np.array([[1]]), "u": np.array([9])}, [1, 9]),
    ],
)
def test_values(call: str, constants: dict[str, Any], expected: Any) -> None:
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    results = fold(f"g (float[1] z) => (int64[1] y) {{ y = {call} }}", call.split("(")[0].split("<")[0], **arrays)
    assert results is not None
    assert results[0].tolist() == expected


def test_a_function_rounds_as_onnxruntime_does() -> None:
    x = random(1000)
    results = fold("g (float[1] z) => (float[1000] y) { y = Exp(x) }", "Exp", x=x)
    assert results is not None
    assert results[0].dtype == np.float32
    np.testing.assert_allclose(results[0], np.exp(x), rtol=3e-7)  # two units in the last place


@pytest.mark.parametrize(
    "call",
    [
        "RandomNormalLike(x)",
        "Bernoulli(x)",
        "DequantizeLinear(q, s)",
        "QuantizeLinear(x, s)",
        "com.acme.Swoosh(x)",
        "Add(x, z)",
    ],
)
def test_what_is_never_folded(call: str) -> None:
    text = f"g (float[2] z) => (float[2] y) {{ y = {call} }}"
    weights = {"x": random(2), "s": np.float32(0.1), "q": np.zeros(2, np.uint8)}
    model = parse(text, extra=', "com.acme" : 1', **weights)
    assert fold_node(next(iter(model.graph)), 17) is None


def test_a_constant_does_not_explode() -> None:
    shape = np.array([4096, 4096], np.int64)
    assert fold("g (float[1] z) => (float[a,b] y) { y = Expand(x, s) }", "Expand", x=np.ones(1), s=shape) is None
    assert fold("g (float[1] z) => (float[a,b] y) { y = ConstantOfShape(s) }", "ConstantOfShape", s=shape) is None


def test_transposing_a_weight_copies_nothing() -> None:
    x = random(64, 32)
    model = parse("g (float[1] z) => (float[32,64] y) { y = Transpose(x) }")
    tensor = ir.Tensor(x, name="x")
    value = next(iter(model.graph)).inputs[0]
    assert value is not None
    value.const_value, value.shape, value.dtype = tensor, ir.Shape([64, 32]), ir.DataType.FLOAT
    model.graph.register_initializer(value)
    results = fold_node(next(iter(model.graph)), 17)
    assert results is not None
    assert np.shares_memory(results[0], x)
