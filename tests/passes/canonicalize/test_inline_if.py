from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

from edgeprune.graph import model_io as graphs
from edgeprune.passes.canonicalize.pipeline import canonicalize
from edgeprune.testing.oracle import verify
from tests.passes.models import ops, random, run

BRANCHES = """
    then_branch = yes () => (float[n,m] t) <float[6,4] wt = {WEIGHT}> { a = Relu(h)  t = MatMul(a, wt) },
    else_branch = no () => (float[n,m] t) { a = Tanh(h)  t = MatMul(a, we) }"""


def model(condition: str, *, result: str = "y = Neg(r)", branches: str = BRANCHES, out: str = "y") -> ir.Model:
    weight = ", ".join(f"{v:.3f}" for v in random(24, seed=1))
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[2,8] x) => (float[?,?] {out}) <int64 six = {{6}}, int64 one = {{1}}> {{
            h = MatMul(x, w1)
            {condition}
            r = If(c) <{branches.replace("WEIGHT", weight)}>
            {result}
        }}"""
    )
    for name, array in (("w1", random(8, 6)), ("we", random(6, 4, seed=2))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return graphs.infer_shapes(ir.from_proto(proto))


def agree(dense: ir.Model, canonical: ir.Model) -> None:
    x: Any = random(2, 8, seed=3)
    np.testing.assert_array_equal(run(canonical, x=x)[0], run(dense, x=x)[0])


@pytest.mark.parametrize(("wanted", "function"), [("six", "Relu"), ("one", "Tanh")])
def test_the_branch_taken_is_what_is_left(wanted: str, function: str) -> None:
    dense = model(f"s = Shape(h)  d = Gather(s, one)  c = Equal(d, {wanted})")
    canonical = canonicalize(dense, verify=True)
    assert ops(canonical) == {"MatMul": 2, function: 1, "Neg": 1}
    agree(dense, canonical)
    assert [g.size for g in verify(canonical).groups] == [6]


def test_its_result_may_be_the_graphs_own() -> None:
    dense = model("c = Equal(one, one)", result="", out="r")
    canonical = canonicalize(dense, verify=True)
    assert [value.name for value in canonical.graph.outputs] == ["r"]
    agree(dense, canonical)


def test_a_branch_that_only_hands_on_a_value() -> None:
    same = """then_branch = yes () => (float[n,m] t) { t = Identity(h) },
              else_branch = no () => (float[n,m] t) { t = Neg(h) }"""
    for result, out in (("y = Neg(r)", "y"), ("", "r")):
        dense = model("c = Equal(one, one)", branches=same, result=result, out=out)
        canonical = canonicalize(dense, verify=True)
        assert "If" not in ops(canonical)
        agree(dense, canonical)


def test_weights_of_the_other_branch_are_gone() -> None:
    canonical = canonicalize(model("c = Equal(one, one)"), verify=True)
    assert len(canonical.graph.initializers) == 2


def test_one_within_another() -> None:
    inner = """then_branch = yes () => (float[n,m] t) {
                   e = Equal(one, six)
                   t = If(e) <then_branch = a () => (float[n,m] u) { u = Neg(h) },
                              else_branch = b () => (float[n,m] u) { v = Relu(h)  u = Tanh(v) }> },
               else_branch = no () => (float[n,m] t) { t = Neg(h) }"""
    dense = model("c = Equal(one, one)", branches=inner)
    canonical = canonicalize(dense, verify=True)
    assert ops(canonical) == {"MatMul": 1, "Relu": 1, "Tanh": 1, "Neg": 1}
    agree(dense, canonical)


def test_an_if_that_decides_at_run_time_stays_and_freezes_what_it_reads() -> None:
    dense = model("m = ReduceMax<keepdims=0>(x)  c = Greater(m, m)")
    canonical = canonicalize(dense, verify=True)
    assert ops(canonical)["If"] == 1
    analysis = verify(canonical)
    assert analysis.groups == ()
    assert analysis.why("w1", 1)[-1].reason == "control flow"
