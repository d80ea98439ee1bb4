from tests.rules.cases import Case, cases, check


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
    Case("weights used twice", "i = Conv(h, w) z = Conv(i, w)", (6, 6, 6), weights={"w": (6, 6, 1, 1)}),
)
def test_convolutions(case: Case) -> None:
    check(case)
