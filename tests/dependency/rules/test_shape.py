from collections.abc import Sequence

import pytest

from edgeprune.dependency.rules.shape import factorings
from tests.dependency.rules.cases import Case, cases, check


@pytest.mark.parametrize(
    ("before", "after", "left", "right"),
    [
        ((2, 12), (2, 3, 4), "p0 (f0_4 f0_1)", "p0 f0_4 f0_1"),
        ((2, 3, 4), (2, 12), "p0 f0_4 f0_1", "p0 (f0_4 f0_1)"),
        ((1, 6, 4, 4), (1, 2, 48), "p0 (f0_48 f0_16) f0_4 f0_1", "p0 f0_48 (f0_16 f0_4 f0_1)"),
        ((12,), (1, 12, 1), "f0_1", "1 f0_1 1"),
        ((4, 6), (6, 4), "!x0 !x1", "!y0 !y1"),  # 6 does not divide 4, nor 4 divide 6
        ((8, 6), (2, 4, 6), "(f0_4 f0_1) s0", "f0_4 f0_1 s0"),
        (("N", 12), ("N", 3, 4), "p0 (f0_4 f0_1)", "p0 f0_4 f0_1"),
        (("N", 5, 8), ("M", 8), "!x0 !x1 s0", "!y0 s0"),
        ((None, 8), (None, 8), "!x0 s0", "!y0 s0"),
        ((1, 0), (0, 1), "!x0 !x1", "!y0 !y1"),
        ((6, 10), (3, 2, 5, 2), "(f1_2 f1_1) (f0_2 f0_1)", "f1_2 f1_1 f0_2 f0_1"),
        ((), (1, 1), "", "1 1"),
    ],
)
def test_factorings(
    before: Sequence[int | str | None], after: Sequence[int | str | None], left: str, right: str
) -> None:
    a, b, _ = factorings(before, after)
    assert (" ".join(a), " ".join(b)) == (left, right)


SHUFFLE = "a = Reshape(h, s) b = Transpose<perm=[0,2,1,3,4]>(a) "


@cases(
    Case(
        "split of an axis",
        "a = Reshape(h, s) b = Relu(a) z = Reshape(b, t)",
        (2, 3),
        constants="int64[5] s = {1, 2, 3, 4, 4}, int64[4] t = {1, 6, 4, 4}",
    ),
    Case(
        "copied and open lengths",
        "a = Reshape(h, s) b = Relu(a) z = Reshape(b, t)",
        (2, 3),
        constants="int64[5] s = {0, 2, -1, 4, 4}, int64[4] t = {0, -1, 4, 4}",
    ),
    Case(
        "shuffle",
        SHUFFLE + "z = Reshape(b, t)",
        (6,),
        constants="int64[5] s = {1, 2, 3, 4, 4}, int64[4] t = {1, 6, 4, 4}",
    ),
    Case(
        "merged with space",
        "a = Reshape(h, s) b = Relu(a) z = Reshape(b, t)",
        (6,),
        constants="int64[2] s = {1, 96}, int64[4] t = {1, 6, 4, 4}",
    ),
    Case(
        "unrelated lengths",
        "a = Reshape(h, s) b = Relu(a) z = Reshape(b, t)",
        (),
        constants="int64[4] s = {1, 4, 6, 4}, int64[4] t = {1, 6, 4, 4}",
    ),
    Case(
        "flatten",
        "a = Flatten(h) b = Unsqueeze(a, k) z = Transpose<perm=[0,3,1,2]>(b)",
        (6,),
        out=96,
        constants="int64[2] k = {1, 2}",
    ),
    Case("transposed twice", "a = Transpose<perm=[0,2,3,1]>(h) b = Relu(a) z = Transpose<perm=[0,3,1,2]>(b)", (6,)),
    Case(
        "expand",
        "a = ReduceMean<axes=[2,3]>(h) b = Relu(a) c = Expand(b, s) z = Relu(c)",
        (6,),
        constants="int64[4] s = {1, 6, 4, 4}",
    ),
    Case(
        "expand of one channel",
        "a = Conv(h, w) b = Expand(a, s) z = Relu(b)",
        (6, 5),
        out=5,
        constants="int64[4] s = {1, 5, 4, 4}",
        weights={"w": (1, 6, 1, 1)},
    ),
    Case("tile", "a = Tile(h, r) z = Relu(a)", (6,), out=12, constants="int64[4] r = {1, 2, 1, 1}"),
    Case("tile along space", "a = Tile(h, r) z = Relu(a)", (6,), constants="int64[4] r = {1, 1, 2, 1}"),
)
def test_layouts(case: Case) -> None:
    check(case)
