import numpy as np
import pytest

from edgeprune.testing import verify
from tests.models import single


def quantized(zero_point: str, weight_type: str = "int8") -> str:
    values = ", ".join(str(v) for v in np.random.default_rng(0).integers(-9 if weight_type == "int8" else 0, 9, 18))
    second = ", ".join(str(v) for v in np.random.default_rng(1).integers(-9 if weight_type == "int8" else 0, 9, 24))
    return f"""g (float[1,3,4,4] x) => (float[1,4,4,4] y)
    <{weight_type}[6,3,1,1] w1 = {{{values}}}, {weight_type}[4,6,1,1] w2 = {{{second}}},
     float[6] s1 = {{0.1, 0.2, 0.3, 0.1, 0.2, 0.3}}, float[4] s2 = {{0.1, 0.2, 0.3, 0.1}}, float sx = {{0.05}},
     {weight_type}[6] z1 = {{0, 0, 0, 0, 0, 0}}, {weight_type}[4] z2 = {{{zero_point}}}, uint8 zx = {{128}}> {{
        qx = QuantizeLinear(x, sx, zx)
        dx = DequantizeLinear(qx, sx, zx)
        d1 = DequantizeLinear<axis=0>(w1, s1, z1)
        h = Conv(dx, d1)
        qh = QuantizeLinear(h, sx, zx)
        dh = DequantizeLinear(qh, sx, zx)
        r = Relu(dh)
        d2 = DequantizeLinear<axis=0>(w2, s2, z2)
        y = Conv(r, d2)
    }}"""


def test_scales_of_an_axis_follow_it() -> None:
    analysis = verify(single(quantized("0, 0, 0, 0")), tolerance=1e-3)
    (group,) = analysis.groups
    assert {(m.value, m.axis) for m in group.members if m.role != "activation"} >= {("w1", 0), ("s1", 0), ("w2", 1)}
    assert analysis.roles["w2", 1] == "consumer"


@pytest.mark.parametrize("zero_point", ["1, 2, 3, 1"])
def test_asymmetric_weights_have_no_zero_of_their_own(zero_point: str) -> None:
    analysis = verify(single(quantized(zero_point)), tolerance=1e-3)
    assert all(analysis.roles.get(("w2", 1)) != "consumer" for _ in analysis.groups)


def test_the_zero_point_may_be_left_out() -> None:
    values = ", ".join(str(v) for v in np.random.default_rng(0).integers(-90, 90, 18))
    model = single(
        f"""g (float[1,3,4,4] x) => (float[1,4,4,4] y)
        <int8[6,3,1,1] w1 = {{{values}}}, float[6] s1 = {{0.1, 0.2, 0.3, 0.1, 0.2, 0.3}}, float sx = {{0.05}},
         int32[6] b1 = {{5, 4, 3, 2, 1, 0}}> {{
            d1 = DequantizeLinear<axis=0>(w1, s1)
            e1 = DequantizeLinear<axis=0>(b1, s1, )
            h = Conv(x, d1, e1)
            q = QuantizeLinear(h, sx)
            d = DequantizeLinear(q, sx)
            y = Conv(d, w2)
        }}""",
        w2=(4, 6, 1, 1),
    )
    (group,) = verify(model, tolerance=1e-4).groups
    assert {(m.value, m.axis) for m in group.members} >= {("w1", 0), ("s1", 0), ("b1", 0), ("w2", 1)}
