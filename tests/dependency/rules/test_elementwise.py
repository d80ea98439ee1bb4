import pytest

from edgeprune.testing.oracle import verify
from tests.dependency.rules.cases import Case, cases, check
from tests.models import single


@cases(
    Case("activations", "a = Sigmoid(h) b = Mul(h, a) c = Exp(b) z = Tanh(c)", (6,)),
    Case("a constant of each channel", "z = Mul(h, s)", (6,), weights={"s": (6, 1, 1)}),
    Case("a constant of all channels", "z = Add(h, s)", (6,), weights={"s": (1, 1, 1, 1)}),
    Case("a map for all channels", "z = Add(h, s)", (6,), weights={"s": (1, 1, 4, 4)}),
    Case("a single channel spread over many", "a = Conv(h, w) z = Mul(h, a)", (6,), weights={"w": (1, 6, 1, 1)}),
    Case("where", "c = Greater(h, n) z = Where(c, h, s)", (6,), constants="float n = {0}", weights={"s": (6, 1, 1)}),
    Case("several operands", "a = Relu(h) b = Neg(h) z = Max(h, a, b)", (6,)),
    Case("prelu", "z = PRelu(h, s)", (6,), weights={"s": (6, 1, 1)}),
    Case("clip", "z = Clip(h, a, b)", (6,), constants="float a = {-1}, float b = {1}"),
    Case("dropout", "z = Dropout(h)", (6,)),
    Case("power", "z = Pow(h, e)", (6,), constants="float e = {2}"),
)
def test_pointwise(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    ("function", "free"),
    [
        ("q = Relu(q0)", True),
        ("q = Mul(q0, s)", True),
        ("q = Add(q0, s)", True),  # the vector is zeroed as well
        ("q = Add(q0, one)", False),
        ("q = Sigmoid(q0)", False),
        ("q = Exp(q0)", False),
        ("q = Clip(q0, one, two)", False),
        ("q = Clip(q0, minus, one)", True),
        ("g = Sigmoid(q0) q = Mul(q0, g)", True),
        ("g = Sigmoid(q0) q = Add(q0, g)", False),
        ("q = Softmax<axis=1>(q0)", False),
        ("g = ReduceSum<keepdims=1>(q0, axis) q = Div(q0, g)", False),  # 0 / 0
        ("a = Abs(q0) b = ReduceSum<keepdims=1>(a, axis) g = Add(b, one) q = Div(q0, g)", True),
        ("g = Exp(q0) q = Div(q0, g)", True),
        ("g = Log(q0) e = Relu(g) q = Mul(q0, e)", False),
    ],
)
def test_a_product_of_two_tensors_needs_a_zero_that_survives(function: str, free: bool) -> None:
    model = single(
        f"""g (float[1,5,8] x) => (float[1,5,5] y)
        <float one = {{1}}, float two = {{2}}, float minus = {{-1}}, int64[1] axis = {{1}}> {{
            q0 = MatMul(x, wq)
            {function}
            k0 = MatMul(x, wk)
            k1 = Sigmoid(k0)
            k = Transpose<perm=[0,2,1]>(k1)
            y = MatMul(q, k)
        }}""",
        wq=(8, 6),
        wk=(8, 6),
        s=(6,),
    )
    assert [g.size for g in verify(model).groups] == ([6] if free else [])
