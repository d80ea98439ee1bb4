from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from edgeprune.errors import PassError
from edgeprune.passes.tensorrt.cast_fp16 import cast_fp16
from tests.passes.graphs import RESIDUAL, build, feeds_for, run


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def test_a_whole_model_gets_casts_at_its_ends_alone():
    model = build(RESIDUAL)
    cast = cast_fp16(model, [str(n.name) for n in model.graph])
    assert ops(cast).count("Cast") == 2
    assert {v.name: v.dtype for v in (*cast.graph.inputs, *cast.graph.outputs)} == {
        "image": ir.DataType.FLOAT,
        "y": ir.DataType.FLOAT,
    }
    assert all(v.dtype == ir.DataType.FLOAT16 for v in cast.graph.initializers.values())
    assert set(cast.graph.initializers) == set(model.graph.initializers)
    feeds = feeds_for(model)
    (expected,), (actual,) = run(model, feeds), run(cast, feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=5e-3 * np.abs(expected).max())  # a few times 2^-11
    assert model.graph.node("c1").outputs[0].dtype == ir.DataType.FLOAT


def test_islands_share_one_cast_a_value_and_constants_are_kept_for_both():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] x) => (float[2] p, float[2] q, float[2] r) <float[2] k>
    { a = Add(x, k)  p = Mul(a, k)  q = Sub(a, k)  r = Div(a, k) }
    """)
    cast = cast_fp16(model, ["p", "q"])
    casts = [n for n in cast.graph if n.op_type == "Cast" and n.outputs[0].dtype == ir.DataType.FLOAT16]
    assert len(casts) == 1
    assert {n: v.dtype for n, v in cast.graph.initializers.items()} == {
        "k": ir.DataType.FLOAT,
        "k_fp16": ir.DataType.FLOAT16,
    }
    assert [v.name for v in cast.graph.outputs] == ["p", "q", "r"]
    assert cast.graph.node("r").outputs[0].dtype == ir.DataType.FLOAT


def test_slots_that_an_operator_fixes_stay_float32():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 1, 2, 2] x) => (float[1, 1, 4, 4] y) <float[4] scales = {1, 1, 2, 2}>
    { y = Resize<mode = "nearest">(x, , scales) }
    """)
    cast = cast_fp16(model, ["y"])
    assert cast.graph.initializers["scales"].dtype == ir.DataType.FLOAT
    assert run(cast, feeds_for(model))[0].shape == (1, 1, 4, 4)


def test_types_in_attributes_follow():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (int64[2] i, float[2] x) => (float[2] y) <int64[1] size = {2}>
    { c = Cast<to = 1>(i)  o = ConstantOfShape<value = float[1] {3.0}>(size)  s = Add(c, o)  y = Mul(s, x) }
    """)
    cast = cast_fp16(model, ["c", "o", "s", "y"])
    assert ops(cast) == ["Cast", "Cast", "ConstantOfShape", "Add", "Mul", "Cast"]
    feeds = {"i": np.array([1, 2]), "x": np.array([1, 0.5], np.float32)}
    assert run(cast, feeds)[0].tolist() == [4.0, 2.5]


def test_an_output_that_is_read_inside_too_keeps_its_name():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] x) => (float[2] a, float[2] b) { a = Relu(x)  b = Neg(a) }
    """)
    for chosen in (["a"], ["b"], ["a", "b"]):
        cast = cast_fp16(model, chosen)
        assert [(v.name, v.dtype) for v in cast.graph.outputs] == [("a", ir.DataType.FLOAT), ("b", ir.DataType.FLOAT)]
        a, b = run(cast, {"x": np.array([1.5, -1], np.float32)})
        assert (a.tolist(), b.tolist()) == ([1.5, 0.0], [-1.5, 0.0])


def test_subgraphs_read_the_same_types():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] x, bool c) => (float[2] y)
    {
      a = Relu(x)
      y = If(c)<then_branch = t () => (float[2] p) { p = Neg(a) }, else_branch = e () => (float[2] q) { q = Abs(a) }>
    }
    """)
    cast = cast_fp16(model, ["a"])
    assert run(cast, {"x": np.array([2, -1], np.float32), "c": np.array(True)})[0].tolist() == [-2.0, 0.0]


@pytest.mark.parametrize(
    ("name", "message"), [("nobody", "no node 'nobody'"), ("n", "has no float16 form"), ("y", "'k' contains 1e\\+06")]
)
def test_impossible_casts_are_refused(name: str, message: str):
    model = build(
        """
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[2] x) => (float[2] y) <float k = {1000000.0}> { m = IsNaN(x)  n = Not(m)  y = Add(x, k) }
    """
    )
    with pytest.raises(PassError, match=message):
        cast_fp16(model, [name])
