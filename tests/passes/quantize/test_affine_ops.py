import math

import pytest

from edgeprune.passes.quantize.affine_ops import INFINITE, AffineOp, affine_op_of, seen_range
from edgeprune.testing.oracle import parse

SWISH = """
g (float[1, 4, 6] x) => (float[1, 4, 6] y) <float three = {3}, float zero = {0}, float six = {6}> {
  s = Add(x, three)
  c = Clip(s, zero, six)
  p = Mul(x, c)
  y = Div(p, six)
}
"""


def node_of(line: str, constants: str = ""):
    model = parse(f"g (float[1, 4, 6] x) => (float[1, 4, 6] y) <{constants}> {{ y = {line} }}")
    return next(iter(model.graph))


@pytest.mark.parametrize(
    ("line", "constants", "expected"),
    [
        ("Add(k, x)", "float k = {2}", (1.0, 2.0, -math.inf, math.inf)),
        ("Sub(x, k)", "float k = {2}", (1.0, -2.0, -math.inf, math.inf)),
        ("Mul(x, k)", "float[1] k = {4}", (4.0, 0.0, -math.inf, math.inf)),
        ("Div(x, k)", "float k = {4}", (0.25, 0.0, -math.inf, math.inf)),
        ("Relu(x)", "", (1.0, 0.0, 0.0, math.inf)),
        ("HardSigmoid<alpha=0.25, beta=0.5>(x)", "", (0.25, 0.5, 0.0, 1.0)),
        ("Clip(x, , k)", "float k = {6}", (1.0, 0.0, -math.inf, 6.0)),
    ],
)
def test_nodes_that_shift_scale_or_clip_are_affine_ops(line: str, constants: str, expected: tuple[float, ...]) -> None:
    node = node_of(line, constants)
    affine_op = affine_op_of(node)
    assert affine_op is not None
    assert affine_op.source.name == "x"
    assert (affine_op.slope, affine_op.shift, affine_op.low, affine_op.high) == expected


@pytest.mark.parametrize(
    ("line", "constants"),
    [
        ("Mul(x, k)", "float k = {-4}"),
        ("Sub(k, x)", "float k = {2}"),
        ("Div(k, x)", "float k = {2}"),
        ("Add(x, k)", "float[6] k = {1, 2, 3, 4, 5, 6}"),
        ("Add(x, x)", ""),
        ("Sigmoid(x)", ""),
        ("HardSigmoid<alpha=-0.25>(x)", ""),
    ],
)
def test_nodes_that_fall_bend_or_differ_by_position_are_none(line: str, constants: str) -> None:
    assert affine_op_of(node_of(line, constants)) is None


def test_a_hard_swish_does_not_distinguish_values_below_minus_three() -> None:
    values = {v.name: v for node in parse(SWISH).graph for v in (*node.inputs, *node.outputs) if v is not None}
    assert seen_range(values["x"]) == (-3.0, math.inf)
    assert seen_range(values["s"]) == (0.0, 6.0)
    assert seen_range(values["c"]) == INFINITE


def test_a_mul_with_an_affine_op_that_starts_above_zero_distinguishes_all_values() -> None:
    lifted = SWISH.replace("zero = {0}", "zero = {1}")
    values = {v.name: v for node in parse(lifted).graph for v in node.inputs if v is not None}
    assert seen_range(values["x"]) == INFINITE


def test_the_reader_that_sees_most_counts() -> None:
    model = parse(
        "g (float[4] x) => (float[4] y, float[4] z) { h = Neg(x) r = Relu(h) s = HardSwish(h) y = Neg(r) z = Neg(s) }"
    )
    h = next(v for node in model.graph for v in node.outputs if v.name == "h")
    assert seen_range(h) == (-3.0, math.inf)


@pytest.mark.parametrize(
    "inner", [{"low": 0.0, "high": 6.0}, {"slope": 2.0, "shift": -1.0}, {"slope": 0.5, "low": -1.0}]
)
@pytest.mark.parametrize("outer", [{"shift": 3.0, "low": 0.0}, {"slope": 3.0, "high": 2.0}, {"low": 1.0, "high": 2.0}])
def test_an_affine_op_of_an_affine_op_is_an_affine_op(inner: dict[str, float], outer: dict[str, float]) -> None:
    source = next(iter(parse("g (float[4] x) => (float[4] y) { y = Neg(x) }").graph)).inputs[0]
    first, second = AffineOp(source, **inner), AffineOp(source, **outer)
    joint = second.after(first)
    for x in (-9.0, -2.5, -1.0, 0.0, 0.25, 1.0, 3.5, 7.0):
        assert joint(x) == pytest.approx(second(first(x)), abs=1e-12)
