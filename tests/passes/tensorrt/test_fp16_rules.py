from __future__ import annotations

import re

import pytest

from edgeprune.passes.tensorrt.fp16_rules import fp16_eligible
from tests.passes.graphs import TRANSFORMER, build


def verdicts(body: str, values: str = "float unused = {1.0}", ranges=None, shape: str = "1, 4, 64"):
    outputs = re.findall(r"(\w+) = [A-Z]", body)[-1]
    model = build(f"""
    <ir_version: 8, opset_import: ["" : 17]>
    agraph (float[{shape}] x) => (float[a, b, c] {outputs}) <{values}> {{ {body} }}
    """)
    return fp16_eligible(model, ranges)


def test_matmuls_and_activations_are_safe_without_ranges():
    found = verdicts("a = MatMul(x, w)  b = Relu(a)  c = Sigmoid(b)  d = Add(c, b)", "float[64, 64] w")
    assert all(v is True for v in found.values())


@pytest.mark.parametrize("op", ["Exp", "Softmax", "CumSum", "ReduceL2", "ReduceMean", "InstanceNormalization"])
def test_nodes_that_may_overflow_need_ranges(op: str):
    second = {"CumSum": ", one", "InstanceNormalization": ", g, g"}.get(op, "")
    body, values = f"y = {op}(x{second})", "int64 one = {1}, float[4] g"
    assert "range of its input is not known" in str(verdicts(body, values)["y"])
    assert verdicts(body, values, {"x": (-2.0, 2.0)})["y"] is True
    assert not verdicts(body, values, {"x": (-40000.0, 1.0)})["y"]


@pytest.mark.parametrize(
    ("body", "limit"),
    [("y = Mul(x, x)", 127.0), ("y = ReduceSum<keepdims = 1>(x, axes)", 511.0), ("y = Pow(x, three)", 20.0)],
)
def test_squares_and_sums_are_bounded_from_the_range(body: str, limit: float):
    """x times the headroom of 2, squared, summed over 64 or cubed, must stay below 65504."""
    values = "int64[1] axes = {-1}, float three = {3.0}"
    assert verdicts(body, values, {"x": (-limit, 0.0)})["y"] is True
    assert "float16 cannot hold" in str(verdicts(body, values, {"x": (-limit * 1.1, 0.0)})["y"])


def test_fused_layer_norm_computes_its_statistics_in_float32_itself():
    body, values = "y = LayerNormalization(x, g)", "float[64] g"
    assert "not known" in str(verdicts(body, values)["y"])
    assert verdicts(body, values, {"x": (-5000.0, 5000.0)})["y"] is True
    naive = "y = LayerNormalization<stash_type = 10>(x, g)"
    assert not verdicts(naive, values, {"x": (-5000.0, 5000.0)})["y"]


def test_values_near_the_limit_are_refused_by_name():
    found = verdicts("a = Relu(x)  b = Neg(a)", ranges={"x": (-3.0, 3.0), "a": (0.0, 33000.0)})
    assert "'a' reaches 3.3e+04" in str(found["a"])
    assert "'a' reaches 3.3e+04" in str(found["b"])


def test_constants_that_float16_cannot_hold():
    assert "reaches 1e+09" in str(verdicts("y = Add(x, k)", "float k = {-1000000000.0}")["y"])
    assert "holds badly" in str(verdicts("y = Add(x, k)", "float k = {0.000001}")["y"])
    assert verdicts("y = Add(x, k)", "float k = {0.001}")["y"] is True


def test_layer_norm_in_pieces_with_small_values_keeps_only_its_epsilon_apart():
    model = build(TRANSFORMER)
    names = [str(v.name) for n in model.graph for v in n.outputs]
    found = fp16_eligible(model, {"x": (-3.0, 3.0), **dict.fromkeys(names, (-3.0, 3.0))})
    refused = {name for name, v in found.items() if not v}
    assert refused == {"padded", "deviation", "normal"}  # eps = 1e-6, and the nodes that compute with it


def test_integers_and_foreign_operators_stay():
    model = build("""
    <ir_version: 8, opset_import: ["" : 17, "acme" : 1]>
    agraph (int64[4] i, float[4] x) => (float[4] f, float[4] s) { f = Cast<to = 1>(i)  s = acme.Swoosh(x) }
    """)
    found = fp16_eligible(model)
    assert "is exact only up to 2048" in str(found["f"])
    assert "acme::Swoosh" in str(found["s"])


def test_numbers_that_decide_lengths_stay():
    """A tenth is 0.09998 in float16: 640 pixels become 63 instead of 64."""
    found = verdicts(
        """
        s = Mul(x, three)  r = Resize(image, none, s)  m = MatMul(x, w)  f = Floor(m)
        i = Cast<to = 7>(f)  u = Mul(x, x)  y = MatMul(u, w)
        """,
        "float three = {3.0}, float[4, 4] w, float[1, 2, 8, 8] image, float none",
        shape="4",
    )
    assert "scales of" in str(found["s"])
    assert "becomes an integer" in str(found["f"])
    assert found["y"] is True
