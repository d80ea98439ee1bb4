import pytest

from edgeprune.testing.oracle import verify
from tests.dependency.rules.cases import Case, cases, check
from tests.models import single


@cases(
    Case("plain", "z = Conv(h, w, b)", (6, 5), out=5, weights={"w": (5, 6, 3, 3), "b": (5,)}),
    Case("depthwise", "z = Conv<group=6>(h, w, b)", (6,), weights={"w": (6, 1, 1, 1), "b": (6,)}),
    Case("depthwise with a multiplier", "z = Conv<group=6>(h, w)", (6, 2), out=12, weights={"w": (12, 1, 1, 1)}),
    Case("grouped", "z = Conv<group=2>(h, w)", (2, 3, 4), out=8, weights={"w": (8, 3, 1, 1)}),
    Case(
        "grouped after grouped",
        "i = Conv<group=2>(h, w) z = Conv<group=3>(i, v)",
        (2, 3),
        weights={"w": (6, 3, 1, 1), "v": (6, 2, 1, 1)},
    ),
    Case("transposed", "z = ConvTranspose(h, w, b)", (6, 5), out=5, weights={"w": (6, 5, 1, 1), "b": (5,)}),
    Case("transposed, grouped", "z = ConvTranspose<group=2>(h, w)", (2, 3, 4), out=8, weights={"w": (6, 4, 1, 1)}),
    Case("a residual", "i = Conv(h, w) z = Add(h, i)", (6,), weights={"w": (6, 6, 1, 1)}),
    Case("one weight, used twice", "i = Conv(h, w) z = Conv(i, w)", (6,), weights={"w": (6, 6, 1, 1)}),
)
def test_convolutions(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(("settings", "groups"), [("", [6, 6]), ("group=2, ", [2, 3, 3]), ("offset_group=2, ", [])])
def test_a_deformable_convolution_is_one_but_for_offsets_by_channel(settings: str, groups: list[int]) -> None:
    model = single(
        f"""g (float[1,3,6,6] x) => (float[1,4,4,4] y) {{
            h = Conv(x, w1) o = Conv(x, wo)
            a = DeformConv<{settings}kernel_shape=[3,3]>(h, w, o, b) y = Conv(a, w2) }}""",
        19,
        w1=(6, 3, 1, 1),
        wo=(36 if "offset" in settings else 18, 3, 3, 3),
        w=(6, 3 if settings == "group=2, " else 6, 3, 3),
        b=(6,),
        w2=(4, 6, 1, 1),
    )
    assert sorted(g.size for g in verify(model).groups) == groups
