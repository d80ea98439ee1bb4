from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from edgeprune.passes.canonicalize.lift_constants import lift_constants
from tests.passes.models import constant, ops, parse, random, run


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("value = float[2] {1.5, 2.5}", [1.5, 2.5]),
        ("value_floats = [1.5, 2.5]", [1.5, 2.5]),
        ("value_float = 3.5", 3.5),
    ],
)
def test_every_form_of_constant(attribute: str, value: float | list[float]) -> None:
    model = parse(f"g (float[2] x) => (float[2] y) {{ c = Constant<{attribute}>()\n y = Add(x, c) }}")
    before = run(model, x=np.ones(2, np.float32))
    lift_constants(model)
    assert ops(model) == {"Add": 1}
    tensor = model.graph.initializers["c"].const_value
    assert tensor is not None
    assert tensor.numpy().tolist() == value
    np.testing.assert_array_equal(run(model, x=np.ones(2, np.float32)), before)


def test_integers() -> None:
    text = "g (float[4] x) => (float[2,2] y) { c = Constant<value_ints = [2, 2]>()\n y = Reshape(x, c) }"
    model = parse(text)
    lift_constants(model)
    assert constant(model.graph.initializers["c"]) == [2, 2]


def test_a_constant_that_is_an_output_stays() -> None:
    model = parse("g (float[1] x) => (float[1] y, float z) { y = Relu(x)\n z = Constant<value_float = 2.0>() }")
    lift_constants(model)
    assert ops(model) == {"Relu": 1, "Constant": 1}


def test_initializers_are_no_inputs() -> None:
    model = parse("g (float[2] x, float[2] w) => (float[2] y) { y = Add(x, w) }", ir_version=3, w=random(2))
    assert len(model.graph.inputs) == 2
    lift_constants(model)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert model.ir_version is not None
    assert model.ir_version >= 4


def test_bodies_keep_their_constants_apart() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) {
        y = If(c) <
            then_branch = t () => (float[2] a) { k = Constant<value_float = 1.0>()
 a = Add(x, k) },
            else_branch = e () => (float[2] b) { k = Constant<value_float = 2.0>()
 b = Add(x, k) }
        >
    }"""
    model = parse(text)
    lift_constants(model)
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    x = np.zeros(2, np.float32)
    np.testing.assert_array_equal(run(model, c=np.array(True), x=x)[0], [1, 1])
    np.testing.assert_array_equal(run(model, c=np.array(False), x=x)[0], [2, 2])
